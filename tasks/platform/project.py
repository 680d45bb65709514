"""Is the project there, and is the key its own? Asked first, so that a wrong address costs a second and not a night."""

from __future__ import annotations

import socket
from contextlib import closing
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from tasks.errors import AccessError, ConfigurationError
from tasks.platform.functions import RestDatabase
from tasks.platform.identity import identity_of
from tasks.platform.postgres import connecting_to, require_sessions
from tasks.platform.remedies import ADDRESS, KEY
from tasks.retry import Retry
from tasks.settings import Settings

_NO_SUCH_HOST = frozenset({socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)})
_DB_ADDRESS = "Copy the address from the dashboard (Connect → Session pooler) into SUPABASE_DB_URL."
# Seen of hosted projects: https://github.com/orgs/supabase/discussions/52485
_PAUSED = "A paused project loses its name; that comes back minutes after the project is restored in the dashboard."


def require_project(settings: Settings) -> None:
    """Hosts that exist, a pooler that keeps sessions, and a key or user that will do. Reads no row.

    Raises ConfigurationError for an unknown host or a transaction pooler, AccessError for a wrong key or password,
    ServiceUnavailable when nothing answers. Over REST the first call of a run verifies the key.
    """
    if not _behind_a_proxy(settings.supabase_url):  # which knows hosts that this machine does not
        require_host(settings.supabase_url, "SUPABASE_URL", ADDRESS)
    if settings.resolved_transport == "rest":
        return
    require_host(settings.supabase_db_url.get_secret_value(), "SUPABASE_DB_URL", _DB_ADDRESS)
    Retry.of(settings).call(lambda: require_sessions(settings), connecting_to(settings))
    require_identity(settings)  # files go over HTTP on this transport too


def _behind_a_proxy(url: str) -> bool:
    """Whether requests to an address go through a proxy. NO_PROXY alone names none."""
    parts = urlsplit(url)
    return bool(getproxies().keys() & {parts.scheme, "all"}) and not proxy_bypass(parts.hostname or "")


def require_host(url: str, variable: str, remedy: str) -> None:
    """ConfigurationError when no name server knows the host of an address. One that does not answer is an outage."""
    host = urlsplit(url).hostname
    try:
        if host:
            socket.getaddrinfo(host, None)
    except socket.gaierror as error:
        if error.errno in _NO_SUCH_HOST:
            raise ConfigurationError(
                f"The host {host} of {variable} does not exist.", remedy=f"{remedy} {_PAUSED}"
            ) from None
    except UnicodeError:
        raise ConfigurationError(f"The host of {variable} is not a host's name.", remedy=remedy) from None


def require_identity(settings: Settings) -> None:
    """AccessError unless SUPABASE_SERVICE_KEY acts as service_role at SUPABASE_URL, or a user or token as etl."""
    with closing(RestDatabase(settings)) as database:
        role = database.call("etl_doctor")["role"]
    if identity_of(settings).kind == "service key" and role != "service_role":
        raise AccessError(f"SUPABASE_SERVICE_KEY acts as {role}. Nothing was read.", remedy=KEY)
