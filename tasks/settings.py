"""Configuration from the environment and `.env` (the environment wins), with secrets masked.

`SUPABASE_*` name the project, `ETL_*` everything else; `.env.example` explains each.
"""

from __future__ import annotations

import os
import re
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit
from zoneinfo import available_timezones

from dotenv import dotenv_values
from pydantic import AliasChoices, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import SettingsConfigDict

from tasks.errors import ConfigurationError
from tasks.live.settings import WatchSettings

Transport = Literal["rest", "postgres"]
TransportChoice = Literal["auto", "rest", "postgres"]
SCHEDULED_WAIT = 3600
LOCAL_PROJECT = Path("data/local/project.env")
_EMAIL = r"^([^@\s]+@[^@\s]+)?$"
_OTHER_NAMES = frozenset({"ETL_CODE_VERSION", "ETL_PROJECT_DIR"})  # read before there are settings


def _named(variable: str) -> AliasChoices:
    """A setting whose variable has no prefix of ours."""
    return AliasChoices(variable, variable.lower())


class Settings(WatchSettings):
    """Every setting of a run. Sizes are bytes, times seconds, unless a name says otherwise."""

    model_config = SettingsConfigDict(
        env_file=".env",
        env_prefix="ETL_",
        extra="ignore",
        frozen=True,
        populate_by_name=True,
        hide_input_in_errors=True,
    )

    supabase_url: str = Field(default="", validation_alias=_named("SUPABASE_URL"))
    supabase_service_key: SecretStr = Field(default=SecretStr(""), validation_alias=_named("SUPABASE_SERVICE_KEY"))
    supabase_key: SecretStr = Field(default=SecretStr(""), validation_alias=_named("SUPABASE_KEY"))
    supabase_db_url: SecretStr = Field(default=SecretStr(""), validation_alias=_named("SUPABASE_DB_URL"))

    # Without the service key: the pipeline's own user, or a token with the role etl
    email: str = Field(default="", pattern=_EMAIL, repr=False, description="The user to sign in as; its role is etl.")
    password: SecretStr = SecretStr("")
    access_token: SecretStr = Field(default=SecretStr(""), description="A token with the role etl, minted by hand.")

    transport: TransportChoice = "auto"
    db_role: str = Field(
        default="etl",
        pattern=r"^[^\x00]{0,63}$",
        description="Role taken after connecting; empty keeps the login role.",
    )
    data_dir: Path = Path("data/local")
    bucket: str = Field(default="reports", pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$")
    schema_name: Literal["public"] = "public"

    # Reading
    ranges: int = Field(default=4, ge=1, le=32, description="Key ranges read at once.")
    page_rows: int = Field(default=5_000, ge=1, le=100_000, description="Rows asked for in one REST page.")
    batch_rows: int = Field(default=50_000, ge=1, le=1_000_000)
    batch_bytes: int = Field(default=64 * 2**20, ge=2**16)
    statement_timeout: int = Field(default=600, ge=1, description="Seconds, on Postgres connections.")
    trusted_functions: str = Field(default="", description="Functions that source views may call, as schema.name.")
    count_timeout: float = Field(default=20, gt=0)

    # Where the work is done
    workers: int = Field(default=0, ge=0, le=256, description="Local worker processes; 0 uses this process alone.")
    shared_dir: str = Field(
        default="", description="A URL of fsspec that all workers reach; empty: they share data_dir."
    )
    dask_address: str = Field(
        default="", pattern=r"^([a-z]+://.+)?$", description="A Dask scheduler, like tcp://10.0.0.5:8786."
    )

    # Network
    connect_timeout: float = Field(default=10, gt=0)
    read_timeout: float = Field(default=60, gt=0)
    retries: int = Field(default=6, ge=0, le=20, description="Retries of one request.")
    retry_seconds: float = Field(default=300, gt=0, description="All retries of one request together.")
    retry_base: float = Field(default=0.5, gt=0, description="First pause; it doubles, with jitter, up to 30 s.")

    run_retries: int = Field(default=2, ge=0, le=10, description="New starts of a run that a new start can fix.")
    run_retry_seconds: float = Field(default=60, ge=0)

    # Writing
    write_rows: int = Field(default=2_000, ge=1, le=50_000, description="Rows in one RPC.")
    write_bytes: int = Field(default=4 * 2**20, ge=2**14)
    writers: int = Field(default=4, ge=1, le=16, description="Write requests in flight.")
    max_refused_share: float = Field(default=0.01, ge=0, le=1)
    lease_seconds: int = Field(default=120, ge=2)
    wait_for_lease: int | None = Field(
        default=None,
        ge=0,
        description="Seconds to wait for another run; without it a scheduled run waits an hour, any other not at all.",
    )
    clock_scale: float = Field(
        default=1,
        gt=0,
        le=10,
        description="Multiplies pauses between tries and the lease; for tests.",
    )
    resume_within: int = Field(default=12 * 3600, ge=0, description="Seconds in which a dead run may be resumed.")

    # Incremental nights
    full_refresh_days: int = Field(default=7, ge=0, description="Days after which a night reads everything; 0 always.")
    max_changed_share: float = Field(default=0.1, ge=0, le=1, description="Changed rows above it: a full read is due.")
    keep_base: bool = Field(default=True, description="Keep the files that the next night starts from on this disk.")

    # Guard
    max_drop_share: float = Field(default=0.2, ge=0, le=1, description="Users or posts down by more hold the run.")
    max_delete_share: float = Field(default=0.1, ge=0, le=1, description="Deletes above it hold the run.")
    max_rule_points: float = Field(default=10, ge=0, le=100, description="A rule's share up by more points holds it.")
    drift_floor_rows: int = Field(default=100, ge=0, description="Changes of fewer rows never hold a run.")

    # Publishing
    signed_link_seconds: int = Field(default=7 * 86_400, ge=60, le=7 * 86_400)
    part_rows: int = Field(default=500_000, ge=1, le=500_000)
    row_group_rows: int = Field(default=100_000, ge=1, le=1_000_000)
    keep_days: int = Field(default=30, ge=1)

    # Reading reports
    cache_dir: Path = Field(
        default=Path("~/.cache/supabase-nightly"), description="Where `tasks.read` keeps what it downloaded."
    )

    # The reports site and API (`api/`)
    supabase_jwt_secret: SecretStr = Field(default=SecretStr(""), validation_alias=_named("SUPABASE_JWT_SECRET"))
    prefect_api_url: str = Field(default="", validation_alias=_named("PREFECT_API_URL"))
    prefect_api_key: SecretStr = Field(default=SecretStr(""), validation_alias=_named("PREFECT_API_KEY"))
    prefect_api_auth_string: SecretStr = Field(
        default=SecretStr(""), validation_alias=_named("PREFECT_API_AUTH_STRING")
    )
    prefect_ui_url: str = Field(default="", validation_alias=_named("PREFECT_UI_URL"))
    api_origins: str = Field(default="", description="Other sites whose scripts may call the API, comma-separated.")
    api_issuer: str = Field(default="", description="`iss` of the tokens; empty takes <SUPABASE_URL>/auth/v1.")
    api_clock_skew: int = Field(default=60, ge=0, le=600, description="Seconds that clocks may differ by.")
    api_remember_seconds: float = Field(default=5, ge=0, le=60, description="How long what a token may see counts.")
    api_sign_in_rate: str = Field(default="10/minute", description="Sign-ins tried per account, and per address × 5.")
    api_limits_store: str = Field(default="memory://", description="Where `limits` counts: shared by several workers.")
    api_link_seconds: int = Field(default=300, ge=30, le=3_600, description="How long a signed link works.")
    api_upload_bytes: int = Field(default=10 * 2**20, ge=1, description="Largest file that /files takes.")
    api_upload_types: str = Field(default="text/csv,application/json,application/vnd.apache.parquet")

    # Schedule and alerts
    cron: str = "0 3 * * *"
    timezone: str = "UTC"
    alert_slack_webhook: SecretStr = SecretStr("")
    alert_email: str = Field(
        default="", pattern=_EMAIL, description="Who gets alerts by e-mail, through SMTP or SendGrid."
    )
    alert_email_from: str = Field(default="", pattern=_EMAIL, description="Their sender; empty takes alert_email.")
    alert_sendgrid_key: SecretStr = SecretStr("")
    alert_smtp_host: str = Field(default="", description="Any mail server; no account with a vendor is needed.")
    alert_smtp_port: int = Field(default=587, ge=1, le=65_535)
    alert_smtp_user: str = ""
    alert_smtp_password: SecretStr = SecretStr("")
    alert_smtp_security: Literal["starttls", "tls", "none"] = "starttls"

    @field_validator("supabase_url", "prefect_api_url", "prefect_ui_url")
    @classmethod
    def _is_address(cls, value: str) -> str:
        parts = urlsplit(value)
        if value and (parts.scheme not in ("http", "https") or not parts.hostname):
            raise ValueError("must look like https://<ref>.supabase.co")
        if re.search(r"/(rest|auth|storage)/v1", parts.path):
            raise ValueError("must be the project's address alone, without /rest/v1 and the like")
        return value

    @field_validator("supabase_db_url")
    @classmethod
    def _is_database(cls, value: SecretStr) -> SecretStr:
        given = value.get_secret_value()
        if given and not re.match(r"postgres(ql)?://", given):
            raise ValueError("must start with postgresql://")
        return value

    @field_validator("alert_slack_webhook")
    @classmethod
    def _is_webhook(cls, value: SecretStr) -> SecretStr:
        given = value.get_secret_value()
        if given and (given.startswith("http://") or "://" not in given):  # other schemes are Apprise's
            raise ValueError("must start with https://")
        return value

    @field_validator("timezone")
    @classmethod
    def _is_timezone(cls, value: str) -> str:
        if value not in available_timezones():
            raise ValueError("is no time zone; they look like America/New_York")
        return value

    @field_validator("cron")
    @classmethod
    def _is_cron(cls, value: str) -> str:
        if not re.fullmatch(r"(\S+ +){4}\S+", value.strip()) or re.search(r"[^\w*/,#? -]", value):
            raise ValueError("is no cron expression; 0 3 * * * is every day at three")
        return value

    @cached_property
    def resolved_transport(self) -> Transport:
        """`auto` takes Postgres when its URL is set."""
        if self.transport != "auto":
            return self.transport
        return "postgres" if self.supabase_db_url.get_secret_value() else "rest"

    def scaled(self) -> Settings:
        """The same with every waiting time multiplied by `clock_scale`."""
        scale = self.clock_scale
        times = {name: getattr(self, name) * scale for name in ("retry_base", "retry_seconds", "run_retry_seconds")}
        lease = max(2, round(self.lease_seconds * scale))
        return self if scale == 1 else self.model_copy(update={**times, "lease_seconds": lease})

    def lease_wait(self, *, scheduled: bool) -> int:
        """Seconds to wait for another run: nobody sits before a scheduled run, so it waits."""
        if self.wait_for_lease is not None:
            return self.wait_for_lease
        return SCHEDULED_WAIT if scheduled else 0

    @property
    def project(self) -> str:
        """Host of the project, for messages: never a key or a password."""
        return urlsplit(self.supabase_url).netloc.rpartition("@")[2]


def load_settings(**overrides: object) -> Settings:
    """The settings of this process; a wrong one is a ConfigurationError that names the variable, never its value."""
    require_known_names()
    try:
        settings = Settings(**overrides)  # type: ignore[arg-type]
    except ValidationError as error:
        problems = "; ".join(f"{_variable(e['loc'])}: {_plain(e['msg'])}" for e in error.errors())
        raise ConfigurationError(
            f"The settings are not usable: {problems}.", remedy="Correct them in the environment or in .env."
        ) from None
    _require_project(settings)
    return settings.scaled()


def require_known_names() -> None:
    """ConfigurationError for an ETL_* name in the environment or .env that is no setting: most likely a typo."""
    known = {f"ETL_{name.upper()}" for name in Settings.model_fields} | _OTHER_NAMES
    given = {name.upper() for name in (*os.environ, *dotenv_values(".env")) if name.upper().startswith("ETL_")}
    unknown = sorted(given - known)
    if unknown:
        nearest = [(name, get_close_matches(name, known, n=1)) for name in unknown]
        said = "; ".join(f"{name}" + (f" (do you mean {near[0]}?)" if near else "") for name, near in nearest)
        raise ConfigurationError(
            f"There is no such setting: {said}.", remedy="Correct or remove it in the environment or in .env."
        )


def reader_settings() -> Settings:
    """The settings of someone who only reads: those of the environment and .env, else the local stack's.

    The local stack leaves its address and keys where only its owner can read them.
    """
    settings = Settings()
    if settings.supabase_url or not LOCAL_PROJECT.exists():
        return settings
    return Settings(_env_file=(LOCAL_PROJECT, ".env"))


def _plain(message: str) -> str:
    return message.removeprefix("Value error, ")


def _variable(loc: tuple[int | str, ...]) -> str:
    name = str(loc[0]) if loc else "settings"
    return name.upper() if name.lower().startswith("supabase") else f"ETL_{name.upper()}"


def _require_project(settings: Settings) -> None:
    missing = [name for name, value in _required(settings) if not value]
    if settings.resolved_transport == "postgres" and not settings.supabase_db_url.get_secret_value():
        missing.append("SUPABASE_DB_URL")
    if missing:
        raise ConfigurationError(
            f"{' and '.join(missing)} not set.",
            remedy=f"Set {'it' if len(missing) == 1 else 'them'} in the environment or in .env. "
            "Without SUPABASE_URL `make run` uses a local stack.",
        )


def _required(settings: Settings) -> list[tuple[str, str]]:
    """What has to be set, by the identity that the settings choose (tasks/platform/identity.py)."""
    password, token = settings.password.get_secret_value(), settings.access_token.get_secret_value()
    if not (token or settings.email or password):
        return [
            ("SUPABASE_URL", settings.supabase_url),
            ("SUPABASE_SERVICE_KEY", settings.supabase_service_key.get_secret_value()),
        ]
    needed = [("SUPABASE_URL", settings.supabase_url), ("SUPABASE_KEY", settings.supabase_key.get_secret_value())]
    return needed if token else [*needed, ("ETL_EMAIL", settings.email), ("ETL_PASSWORD", password)]
