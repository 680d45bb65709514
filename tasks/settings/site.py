"""The settings of the reports site and its API (`api/`)."""

from __future__ import annotations

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings

from tasks.settings.fields import Address, Certificates, Headers, Key, named


class SiteSettings(BaseSettings):
    """Who may ask the reports site, and how often."""

    supabase_jwt_secret: SecretStr = Field(default=SecretStr(""), validation_alias=named("SUPABASE_JWT_SECRET"))
    prefect_api_url: Address = Field(default="", validation_alias=named("PREFECT_API_URL"))
    prefect_api_key: Key = Field(default=SecretStr(""), validation_alias=named("PREFECT_API_KEY"))
    prefect_api_auth_string: SecretStr = Field(default=SecretStr(""), validation_alias=named("PREFECT_API_AUTH_STRING"))
    prefect_api_ssl_cert_file: Certificates = Field(
        default="", validation_alias=named("PREFECT_API_SSL_CERT_FILE"), description="Empty takes SSL_CERT_FILE."
    )
    prefect_api_tls_insecure_skip_verify: bool = Field(
        default=False, validation_alias=named("PREFECT_API_TLS_INSECURE_SKIP_VERIFY")
    )
    prefect_client_custom_headers: Headers = Field(
        default=SecretStr("{}"), validation_alias=named("PREFECT_CLIENT_CUSTOM_HEADERS")
    )
    prefect_ui_url: Address = Field(default="", validation_alias=named("PREFECT_UI_URL"))
    api_origins: str = Field(default="", description="Other sites whose scripts may call the API, comma-separated.")
    api_issuer: str = Field(default="", description="`iss` of the tokens; empty takes <SUPABASE_URL>/auth/v1.")
    api_clock_skew: int = Field(default=60, ge=0, le=600, description="Seconds that clocks may differ by.")
    api_remember_seconds: float = Field(default=5, ge=0, le=60, description="How long what a token may see counts.")
    api_sign_in_rate: str = Field(default="10/minute", description="Sign-ins tried per account, and per address × 5.")
    api_limits_store: str = Field(default="memory://", description="Where `limits` counts: shared by several workers.")
    api_link_seconds: int = Field(default=300, ge=30, le=3_600, description="How long a signed link works.")
    api_upload_bytes: int = Field(default=10 * 2**20, ge=1, description="Largest file that /files takes.")
    api_upload_types: str = Field(default="text/csv,application/json,application/vnd.apache.parquet")
