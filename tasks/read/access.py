"""Why a reader sees nothing: no run yet, no right to see it, or a token that is none any more."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from tasks.errors import ConfigurationError, NotThere, ReadError
from tasks.files.layout import LATEST
from tasks.files.manifest import Manifest
from tasks.platform.identity import claims_of, etl_role_of, expiry_of
from tasks.settings import Settings

READERS = ("analyst", "operator")
_TOKEN = re.compile(r"[\w-]+\.[\w-]+\.[\w-]+", re.ASCII)


def checked_token(access_token: str | None) -> str | None:
    """The token without white space around it, as the end of a line in a file; ReadError for what is none.

    An empty one, too: without a token the settings decide who reads, and that may be the service.
    """
    if access_token is None:
        return None
    token = access_token.strip() if isinstance(access_token, str) else ""
    if not _TOKEN.fullmatch(token):
        raise ReadError("access_token is not the token of a signed-in user.", remedy=_SIGN_IN)
    return token


def reader_key(settings: Settings, access_token: str | None) -> str | None:
    """The key to read with: the service's, or with a token the public one. ConfigurationError when it is not set.

    None reads as the pipeline's own user or token, where one is set.
    """
    if not access_token and has_own_identity(settings):
        return None
    public, service = (key.get_secret_value() for key in (settings.supabase_key, settings.supabase_service_key))
    key = public if access_token else service or public
    if not settings.supabase_url or not key:
        raise ConfigurationError(
            "SUPABASE_URL and a key are not both set.",
            remedy="Set SUPABASE_URL and SUPABASE_SERVICE_KEY in the environment or in .env; an analyst sets "
            "SUPABASE_URL and SUPABASE_KEY (the public one), and gives access_token=.",
        )
    return key


def has_own_identity(settings: Settings) -> bool:
    """Whether the settings name a user or a token with the role etl, which may read the bucket."""
    return bool(settings.email or settings.access_token.get_secret_value())


def why_hidden(settings: Settings, access_token: str | None) -> ReadError | None:
    """Why this reader cannot see any run, as an error to raise; None when the reader may see them all.

    The token is only looked into, not verified: the server decided already, and row-level security goes by the same
    claims. Nothing of the token is repeated.
    """
    if access_token is None:
        if settings.supabase_service_key.get_secret_value() or has_own_identity(settings):
            return None
        return ReadError(
            f"SUPABASE_KEY alone does not show the bucket {settings.bucket}: nobody is signed in.",
            remedy="Give access_token= of a signed-in analyst, or set SUPABASE_SERVICE_KEY.",
        )
    claims = claims_of(access_token)
    if not claims:
        return ReadError("access_token is not the token of a signed-in user.", remedy=_SIGN_IN)
    expires = expiry_of(claims)
    if expires and expires <= datetime.now(UTC):
        return ReadError(f"The access token expired at {expires:%Y-%m-%d %H:%M} UTC.", remedy=_SIGN_IN)
    if etl_role_of(claims) in READERS:
        return None
    return ReadError(
        f"The bucket {settings.bucket} shows no runs to this user, who is no analyst: the access token must say "
        "app_metadata.etl_role = 'analyst'.",
        remedy="Grant etl_role (README, Read the reports); it counts from the next sign-in or token refresh.",
    )


def nothing_there(settings: Settings, access_token: str | None, newest: Manifest | None = None) -> NotThere:
    """The error for a bucket without a pointer, to a reader who may see it: a server hides files from a false token.

    newest: the run to read where there are runs all the same.
    """
    where = f"The bucket {settings.bucket} of {settings.project} shows no {LATEST}"
    if newest:
        return _not_pointed_to(where, newest)
    if access_token:
        return NotThere(
            f"{where}: either no run was committed yet, or the access token is not one of this project.",
            remedy=f"{_SIGN_IN} list_runs() with the service's key shows what there is.",
        )
    return NotThere(
        f"{where}: no run was committed yet.", remedy="Start a run: `make run`, or the deployment `nightly`."
    )


_SIGN_IN = "Sign in again, and give the new session's access_token."


def _not_pointed_to(where: str, newest: Manifest) -> NotThere:
    if newest.historical:
        return NotThere(
            f"{where}: there are runs for past instants alone, and no other was committed yet.",
            remedy="Start a run: `make run`, or the deployment `nightly`. Until then read one of those, as "
            f"run={newest.run_id!r}; list_runs() shows them.",
        )
    return NotThere(
        f"{where}, which a run writes once it is committed. The newest run whose files are there is {newest.run_id}.",
        remedy="Try again in a minute; if it stays so, the next start of a run writes it. Until then "
        f"run={newest.run_id!r} reads that run; list_runs() shows what there is.",
    )


def refused(settings: Settings, access_token: str | None, said: str) -> ReadError:
    """The error for a request that the server refused: what is wrong with the token, else what the server said."""
    return why_hidden(settings, access_token) or ReadError(
        f"{settings.project} refused the key or token: {said}", remedy=_SIGN_IN if access_token else "Check the key."
    )
