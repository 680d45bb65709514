"""As whom the pipeline acts over REST, Storage and Realtime.

Three kinds, the narrowest that is set wins: ETL_ACCESS_TOKEN, a token with the role `etl`; ETL_EMAIL and ETL_PASSWORD,
a user of the pipeline's own that signs in and whose token carries that role; SUPABASE_SERVICE_KEY, which may do
everything.
"""

from __future__ import annotations

import atexit
import base64
import json
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any, Literal, Protocol

import httpx
from supabase_auth import SyncGoTrueClient
from supabase_auth.errors import AuthApiError, AuthError, AuthRetryableError
from supabase_auth.types import Session

from tasks.errors import AccessError, ConfigurationError, PipelineError, ServiceUnavailable
from tasks.platform.remedies import KEY
from tasks.retry import Retry
from tasks.settings import Settings

logger = logging.getLogger(__name__)

Kind = Literal["service key", "signed-in user", "access token"]
ROLE = "etl"
MARGIN_SECONDS = 60.0  # a token is replaced so long before it expires, or in the last fifth of a shorter life
_DOCS = "docs/keys.md says how, step by step."
_MARKED = (
    "Choose the hook public.etl_access_token in the dashboard (Authentication → Hooks → Customize Access Token) and "
    f"mark the user with etl_role = pipeline. {_DOCS}"
)


class Identity(Protocol):
    """Who requests act as. `apikey` passes the gateway; `bearer` decides the role."""

    kind: Kind
    apikey: str
    remedy: str  # where the project takes it no more

    def bearer(self) -> str | None:
        """The token that the next request carries, valid for a while; None when the key alone decides.

        Raises AccessError or ConfigurationError when there is none to be had, ServiceUnavailable when not now.
        """

    def reject(self, token: str) -> bool:
        """The server called this token expired. True when the next `bearer` brings another one."""

    def sign_out(self) -> None:
        """End what was opened on the server. The next `bearer` opens it again."""


class _Given:
    """What the project's owner has made, and nobody can renew here."""

    def reject(self, token: str) -> bool:
        return False

    def sign_out(self) -> None:
        """Nothing was opened."""


class ServiceKey(_Given):
    """The project's secret key: role service_role, past row-level security."""

    kind: Kind = "service key"
    remedy = KEY

    def __init__(self, settings: Settings) -> None:
        self.apikey = settings.supabase_service_key.get_secret_value()

    def bearer(self) -> str | None:
        return None


class AccessToken(_Given):
    """A token with the role etl."""

    kind: Kind = "access token"
    remedy = (
        "ETL_ACCESS_TOKEN must be signed with a key that the project in SUPABASE_URL still trusts, and SUPABASE_KEY be "
        f"its current publishable key; after a rotation mint the token again. {_DOCS}"
    )

    def __init__(self, settings: Settings) -> None:
        self.apikey = settings.supabase_key.get_secret_value()
        self._token = settings.access_token.get_secret_value()

    def bearer(self) -> str | None:
        claims = claims_of(self._token)
        if not claims:
            raise ConfigurationError("ETL_ACCESS_TOKEN is not a JWT.", remedy=f"Mint one with the role etl: {_DOCS}")
        _require_role(claims, "ETL_ACCESS_TOKEN has", f"Mint one with the role etl: {_DOCS}")
        expires = expiry_of(claims)
        if expires and expires <= datetime.now(UTC):
            raise AccessError(
                f"ETL_ACCESS_TOKEN expired on {expires:%Y-%m-%d at %H:%M} UTC.", remedy=f"Mint a new one: {_DOCS}"
            )
        return self._token


class SignedInUser:
    """A user of the pipeline's own. One session for all threads of a process, as a refresh token serves once."""

    kind: Kind = "signed-in user"
    remedy = f"SUPABASE_KEY must be the current publishable key of the project in SUPABASE_URL. {_DOCS}"

    def __init__(self, settings: Settings) -> None:
        self.apikey = settings.supabase_key.get_secret_value()
        self._url = f"{settings.supabase_url.rstrip('/')}/auth/v1"
        self._credentials: Any = {"email": settings.email, "password": settings.password.get_secret_value()}
        self._timeout = httpx.Timeout(settings.read_timeout, connect=settings.connect_timeout)
        self._retry = Retry.of(settings)
        self._lock = threading.Lock()
        self._session: Session | None = None
        self._refresh_at = self._expires_at = 0.0  # of time.monotonic: the server's and our clocks may differ

    def bearer(self) -> str | None:
        with self._lock:
            if self._session is None:
                self._keep(self._retry.call(self._sign_in, "Sign-in as the user of ETL_EMAIL"))
            elif time.monotonic() >= self._refresh_at:
                self._renew(self._session)
            return self._session.access_token if self._session else None

    def reject(self, token: str) -> bool:
        with self._lock:
            if self._session and self._session.access_token == token:
                self._refresh_at = self._expires_at = 0.0
        return True

    def sign_out(self) -> None:
        """End this session, and no other one of the same user."""
        with self._lock, suppress(PipelineError):
            session, self._session = self._session, None
            if session:
                with self._auth() as auth:
                    auth.admin.sign_out(session.access_token, "local")

    def _renew(self, session: Session) -> None:
        """Refresh the session; where that is refused, sign in again. A token that still lives outlasts an outage."""
        try:
            self._keep(self._retry.call(lambda: self._refresh(session), "Refresh of the session"))
        except AccessError:
            self._keep(self._retry.call(self._sign_in, "Sign-in as the user of ETL_EMAIL"))
        except ServiceUnavailable:
            if time.monotonic() >= self._expires_at:
                raise
            logger.warning("The session could not be refreshed yet; its token is still valid.")

    def _sign_in(self) -> Session:
        with self._auth() as auth:
            return _session(auth.sign_in_with_password(self._credentials).session)

    def _refresh(self, session: Session) -> Session:
        with self._auth() as auth:
            return _session(auth.refresh_session(session.refresh_token).session)

    def _keep(self, session: Session) -> None:
        _require_role(claims_of(session.access_token), "The user of ETL_EMAIL gets a token with", _MARKED)
        now, life = time.monotonic(), float(session.expires_in)
        self._session = session
        self._expires_at = now + life
        self._refresh_at = now + life - min(MARGIN_SECONDS, life / 5)

    @contextmanager
    def _auth(self) -> Iterator[SyncGoTrueClient]:
        """The SDK's client, without a timer thread of its own; its errors become errors of ours."""
        with httpx.Client(timeout=self._timeout) as http:
            try:
                yield SyncGoTrueClient(
                    url=self._url,
                    headers={"apikey": self.apikey},
                    auto_refresh_token=False,
                    persist_session=False,
                    http_client=http,
                )
            except (AuthError, httpx.HTTPError) as error:
                raise _error_of_ours(error) from None


def _session(session: Session | None) -> Session:
    if session is None:
        raise AccessError(
            "Auth opened no session for the user of ETL_EMAIL.",
            remedy="If it has a second factor, remove that: e-mail and password are all it has.",
        )
    return session


def _error_of_ours(error: Exception) -> PipelineError:
    """Auth's own words name no address and no secret, but only its code and status are repeated all the same."""
    status = int(getattr(error, "status", 0) or 0)
    code = getattr(error, "code", None) or type(error).__name__
    reason = f"{code}, HTTP {status}" if status else code
    passing = isinstance(error, AuthRetryableError | httpx.HTTPError) or status == 429 or status >= 500
    if passing and not (isinstance(error, AuthApiError) and "hook" in str(code)):
        return ServiceUnavailable(f"Auth did not answer as it should ({reason}).")
    if status == 401:  # of the gateway, which asks nobody about a user: wrong credentials are a 400
        return AccessError(f"The project refused SUPABASE_KEY ({reason}).", remedy=SignedInUser.remedy)
    return AccessError(
        f"Auth refused the user of ETL_EMAIL ({reason}).",
        remedy="Compare ETL_EMAIL and ETL_PASSWORD with the user in the dashboard (Authentication → Users), and "
        f"SUPABASE_KEY with the publishable key. No program passes a CAPTCHA (captcha_failed): use a token. {_DOCS}",
    )


def claims_of(token: str) -> dict[str, Any]:
    """What a JWT says; empty when it is none. Its signature is the server's to check."""
    try:
        body = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    except (IndexError, ValueError):
        return {}
    return claims if isinstance(claims, dict) else {}


def expiry_of(claims: dict[str, Any]) -> datetime | None:
    """When a token with these claims expires; None when it does not say, or after all years, as in milliseconds."""
    expires = claims.get("exp")
    with suppress(ValueError, OverflowError, OSError):
        return datetime.fromtimestamp(expires, UTC) if isinstance(expires, int | float) else None
    return None


def etl_role_of(claims: dict[str, Any]) -> Any:
    """What a person was granted, `app_metadata.etl_role`; None for nothing."""
    about = claims.get("app_metadata")  # a hook of the project's own may put anything there
    return about.get("etl_role") if isinstance(about, dict) else None


def _require_role(claims: dict[str, Any], whose: str, remedy: str) -> None:
    role = claims.get("role")
    if role != ROLE:
        raise ConfigurationError(f"{whose} the role {role or 'of nobody'}, not {ROLE}.", remedy=remedy)


# One identity a process for the same settings: threads share a session, and nobody signs in twice.
_KNOWN: dict[tuple[str, ...], Identity] = {}
_LOCK = threading.Lock()


def identity_of(settings: Settings) -> Identity:
    """The identity that the settings choose; the same object for the same settings."""
    kind = _kind(settings)
    secrets = (settings.access_token, settings.password, settings.supabase_service_key, settings.supabase_key)
    key = (kind.__name__, settings.supabase_url, settings.email, *(secret.get_secret_value() for secret in secrets))
    with _LOCK:
        if key not in _KNOWN:
            if len(_KNOWN) >= 16:  # a process has one; tests have many
                _KNOWN.pop(next(iter(_KNOWN)))
            _KNOWN[key] = kind(settings)
        return _KNOWN[key]


def _kind(settings: Settings) -> type[ServiceKey] | type[AccessToken] | type[SignedInUser]:
    if settings.access_token.get_secret_value():
        return AccessToken
    return SignedInUser if settings.email else ServiceKey


_HOLDERS: dict[int, int] = {}


@contextmanager
def acting(settings: Settings) -> Iterator[Identity]:
    """The identity of the settings; its session is signed out when the outermost of these blocks ends."""
    identity = identity_of(settings)
    with _LOCK:
        _HOLDERS[id(identity)] = _HOLDERS.get(id(identity), 0) + 1
    try:
        yield identity
    finally:
        with _LOCK:
            _HOLDERS[id(identity)] -= 1
            last = not _HOLDERS[id(identity)]
        if last:
            _HOLDERS.pop(id(identity), None)
            identity.sign_out()


@atexit.register
def _sign_all_out() -> None:
    for identity in _KNOWN.values():
        identity.sign_out()
