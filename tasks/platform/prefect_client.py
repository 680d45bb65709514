"""The way to Prefect's API for those who do not load Prefect, which takes seconds; by the settings of its client."""

from __future__ import annotations

import base64
import json
import ssl

import httpx

from tasks.settings import Settings


def prefect_client(settings: Settings, *, timeout: float, transport: httpx.BaseTransport | None = None) -> httpx.Client:
    """A client with the password, key, headers and certificates that Prefect's own would take."""
    file, unchecked = settings.prefect_api_ssl_cert_file, settings.prefect_api_tls_insecure_skip_verify
    verify = ssl.create_default_context(cafile=file) if file and not unchecked else not unchecked
    client = httpx.Client(timeout=timeout, headers=_authorization(settings), verify=verify, transport=transport)
    client.headers.update(json.loads(settings.prefect_client_custom_headers.get_secret_value()))
    return client


def _authorization(settings: Settings) -> dict[str, str]:
    if password := settings.prefect_api_auth_string.get_secret_value():
        return {"Authorization": f"Basic {base64.b64encode(password.encode()).decode()}"}
    key = settings.prefect_api_key.get_secret_value()
    return {"Authorization": f"Bearer {key}"} if key else {}
