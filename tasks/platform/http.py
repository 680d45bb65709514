"""The Supabase client as the pipeline uses it: HTTP/1.1, timeouts of its own, no retry below ours, errors of ours.

httpx's HTTP/2 is unsafe across threads, so each worker makes its own client.
"""

from __future__ import annotations

import logging
import re
import ssl
from collections.abc import Callable
from functools import cache
from typing import Any

import httpx
from supabase import Client, ClientOptions, create_client

from tasks.errors import ConfigurationError, RequestRefused, ServiceUnavailable
from tasks.platform.identity import Identity, identity_of
from tasks.platform.remedies import ADDRESS, KEY, OUTAGE, RIGHTS, STORAGE_GRANTS
from tasks.platform.storage_rights import remedy_for_etl
from tasks.platform.traffic import count_request, count_response
from tasks.retry import classify, parse_retry_after
from tasks.settings import Settings

for _name in ("httpx", "httpcore", "hpack", "urllib3"):  # their INFO lines hold whole URLs
    logging.getLogger(_name).setLevel(logging.WARNING)


# Where our tables and functions are: without it PostgREST takes the first of the schemas that a project exposes.
PROFILE = {"Accept-Profile": "public", "Content-Profile": "public"}


def make_http(
    settings: Settings, *, transport: httpx.BaseTransport | None = None, identity: Identity | None = None
) -> httpx.Client:
    """An httpx client whose every answer of 4xx or 5xx is raised as an error of ours, with status and code.

    identity: requests carry its token, which may be another one each time; one that the server calls expired is
    replaced, and the request is worth another try.
    """
    request_hooks: list[Callable[..., Any]] = [count_request]
    response_hooks: list[Callable[..., Any]] = [count_response, raise_for_answer]
    if identity is not None:
        request_hooks.insert(0, _bearing(identity))
        response_hooks[1] = _noticing_expiry(identity, settings.bucket)
    timeout = httpx.Timeout(settings.read_timeout, connect=settings.connect_timeout)
    return httpx.Client(
        http2=False,
        verify=_trusted(),
        timeout=timeout,
        transport=transport,
        event_hooks={"request": request_hooks, "response": response_hooks},
    )


def _bearing(identity: Identity) -> Callable[[httpx.Request], None]:
    def bear(request: httpx.Request) -> None:
        token = identity.bearer()
        if token is not None:
            request.headers["Authorization"] = f"Bearer {token}"

    return bear


def _noticing_expiry(identity: Identity, bucket: str) -> Callable[[httpx.Response], None]:
    """A token that expired, or whose session ended, on its way is a passing trouble where the identity has more."""

    def notice(response: httpx.Response) -> None:
        try:
            raise_for_answer(response)
        except RequestRefused as error:
            error.remedy = _remedy(error, identity, response.request, bucket)
            token = response.request.headers.get("Authorization", "").removeprefix("Bearer ")
            if not _about_the_token(error) or not identity.reject(token):
                raise
            raise ServiceUnavailable("The session's token has expired; it is refreshed.") from None

    return notice


def _remedy(error: RequestRefused, identity: Identity, request: httpx.Request, bucket: str) -> str:
    """What to do about it, naming nothing that this identity does not have. Who is known and refused lacks a right."""
    if KEY not in error.remedy:
        return error.remedy
    by_storage = _STORAGE in request.url.path and _REFUSED_BY_STORAGE.search(error.message)
    if identity.kind == "service key":
        return STORAGE_GRANTS if by_storage else error.remedy
    if error.status == 403:
        return remedy_for_etl(request, bucket) if by_storage else RIGHTS
    return identity.remedy


def _about_the_token(error: RequestRefused) -> bool:
    """PostgREST says PGRST301 or PGRST303."""
    return error.status == 401 or error.code in ("PGRST301", "PGRST303", "InvalidJWT")


@cache
def _trusted() -> ssl.SSLContext:
    """The certificates that are trusted: reading them takes longer than a request, and clients may share them."""
    return httpx.create_ssl_context()


def make_client(
    settings: Settings,
    *,
    key: str | None = None,
    access_token: str | None = None,
    transport: httpx.BaseTransport | None = None,
) -> Client:
    """A supabase-py client that acts as the settings' identity.

    key: acts as that key instead. access_token: acts as the user of that token; `key` passes the gateway.
    """
    identity = None if key or access_token else identity_of(settings)
    options = ClientOptions(
        headers={"Authorization": f"Bearer {access_token}"} if access_token else {},
        httpx_client=make_http(settings, transport=transport, identity=identity),
        postgrest_client_retry=False,
        auto_refresh_token=False,
        persist_session=False,
    )
    try:
        fallback = identity.apikey if identity else settings.supabase_service_key.get_secret_value()
        return create_client(settings.supabase_url, key or fallback, options)
    except Exception as error:  # noqa: BLE001 - the SDK raises its own type, ValueError and httpx's for one cause
        raise ConfigurationError(
            f"SUPABASE_URL and its key make no client ({type(error).__name__}).",
            remedy="SUPABASE_URL looks like https://<ref>.supabase.co; the key is the project's secret key.",
        ) from None


# Storage has no 5xx that is final (InternalError, DatabaseError, S3Error, SlowDown, and 544 for DatabaseTimeout), and
# every request of ours to it may be sent twice. Source: Supabase's list of Storage error codes.
_STORAGE = "/storage/v1/"
LOCKED = 423
# What it says, as 400 or 403, of a token that has expired, or whose key (a secret or a pair) was revoked.
# Source: src/internal/auth/jwt.ts of supabase/storage, and its library jose.
_NO_TOKEN = re.compile(
    r"jwt expired|claim timestamp|signature verification failed|key for the \w+ algorithm must", re.IGNORECASE
)
# What it says, without a SQLSTATE, for the database's "permission denied": the token itself was taken.
_REFUSED_BY_STORAGE = re.compile("row-level security|permission denied")


def raise_for_answer(response: httpx.Response) -> None:
    """Raise what an answer of 4xx or 5xx means. Storage hides the real status in its body, often behind a 400.

    The answer to a token that it does not take is made a 401, as PostgREST and Auth have it.
    """
    if response.is_success or response.status_code == 304:
        return
    response.read()
    body, by_storage = _body(response), _STORAGE in response.url.path
    status = _int(body.get("statusCode")) or response.status_code
    code = body.get("error_code") or body.get("code") or body.get("error")  # Auth's own word, beside the status as code
    message = str(body.get("message") or body.get("msg") or response.reason_phrase)
    if by_storage and _NO_TOKEN.search(message):
        status = 401
    raise classify(
        status,
        str(code) if code else None,
        message,
        retry_after=parse_retry_after(response.headers.get("retry-after")),
        transient=by_storage and (status >= 500 or status == LOCKED),
    )


def not_json(response: httpx.Response) -> ServiceUnavailable:
    """The error for a good answer without the JSON that it should hold: cut short, or somebody else's page."""
    if "html" in response.headers.get("content-type", ""):
        return ServiceUnavailable(
            f"{response.url.host} answered with an HTML page instead of data.",
            remedy=f"{ADDRESS} Or a proxy, a firewall or a sign-in page stands in between.",
        )
    return ServiceUnavailable("The answer was cut short or is not JSON.", remedy=OUTAGE)


def _body(response: httpx.Response) -> dict[str, object]:
    try:
        body = response.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _int(value: object) -> int:
    return int(value) if str(value).isdigit() else 0  # type: ignore[call-overload]
