"""What the identities of a run may do beyond what a run needs: asked of the database, which knows, and put in words."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from tasks.contracts import TABLES
from tasks.platform.functions import PostgresDatabase, RestDatabase
from tasks.platform.identity import Kind, identity_of
from tasks.settings import Settings

_WHO: dict[Kind, str] = {
    "service key": "SUPABASE_SERVICE_KEY",
    "signed-in user": "the user of ETL_EMAIL",
    "access token": "ETL_ACCESS_TOKEN",
}
_SHOWN = 5  # roles named; of more, their number


@dataclass(frozen=True, slots=True)
class Rights:
    """One identity. over: what it is for. who: which setting it comes from. beyond: what no run needs, in words."""

    over: str
    who: str
    role: str
    beyond: tuple[str, ...]

    def __str__(self) -> str:
        more = f"beyond what a run needs it {', '.join(self.beyond)}" if self.beyond else "no more than a run needs"
        return f"{self.over}: {self.who}, role {self.role}; {more}."


def rights(settings: Settings) -> list[Rights]:
    """The identity over REST and Storage and, where runs go over Postgres, the login there.

    Raises the errors of `Database.call`.
    """
    mine = [api_rights(settings)]
    return [*mine, login_rights(settings)] if settings.resolved_transport == "postgres" else mine


def api_rights(settings: Settings) -> Rights:
    """As whom REST, Storage and Realtime are used."""
    with closing(RestDatabase(settings)) as database:
        found = database.call("etl_identity", p_over="rest", p_sources=_sources())
    return Rights("REST and Storage", _WHO[identity_of(settings).kind], found["role"], _beyond(found))


def login_rights(settings: Settings) -> Rights:
    """As whom SUPABASE_DB_URL logs in: taking the role etl afterwards takes nothing from a login that leaks."""
    with closing(PostgresDatabase(settings)) as database:
        found = database.call("etl_identity", p_over="postgres", p_sources=_sources())
    login = f"the login of SUPABASE_DB_URL as {found['acts_as']}"
    return Rights("Postgres", login, found["role"], _beyond(found))


def _sources() -> list[dict[str, str]]:
    return [{"schema": t.source_schema, "table": t.source} for t in TABLES]


def _beyond(found: Mapping[str, Any]) -> tuple[str, ...]:
    """What the database said, as verbs of `it`; the gravest first."""
    roles = found["member_of"]
    named = ", ".join(roles) if len(roles) <= _SHOWN else f"{len(roles)} other roles"
    said = [
        (found["superuser"], "is a superuser"),
        (found["bypasses_rls"], "passes row-level security"),
        (found["all_buckets"], "reads and writes every bucket"),
        (found["writes_sources"], "writes the sources"),
        (found["writes"], f"writes {found['writes']} other tables"),
        (found["reads"], f"reads {found['reads']} other tables"),
        (roles, f"may become {named}"),
        *((True, attribute) for attribute in found["attributes"]),
    ]
    return tuple(text for holds, text in said if holds)
