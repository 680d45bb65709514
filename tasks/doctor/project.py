"""Checks of the project over HTTP: reach, keys and their roles, clock, limits, tables, rights."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import httpx

from tasks.contracts import TABLES, USERS
from tasks.doctor.findings import ONCE, Finding, advice, fail, ok, warn
from tasks.errors import ConfigurationError, PipelineError, RequestRefused
from tasks.platform.functions import open_database
from tasks.platform.http import PROFILE, make_http, not_json
from tasks.platform.identity import claims_of, expiry_of, identity_of
from tasks.platform.quoting import url_column
from tasks.platform.rights import api_rights
from tasks.settings import Settings
from tasks.sink.schema import check_schema

MIGRATE = "Run `make migrate` (it needs SUPABASE_DB_URL)."
CLOCK_WARN_SECONDS = 5.0
CLOCK_FAIL_SECONDS = 120.0
TIMEOUT_WARN_MS = 8_000
TOKEN_WARNING = timedelta(days=14)
NOT_EXPOSED = "PGRST106"


def ask(settings: Settings, method: str, path: str, *, what: str, key: str = "", **options: Any) -> httpx.Response:
    """One request, tried once, as the holder of `key`, or else as the runs do. Raises the errors of ours."""
    identity = None if key else identity_of(settings)
    key = key or identity_of(settings).apikey
    headers = {"apikey": key, **PROFILE, **options.pop("headers", {})}
    if key.count(".") == 2:  # only a JWT is a bearer token; the newer keys are not
        headers["Authorization"] = f"Bearer {key}"
    with make_http(settings, identity=identity) as http:
        url = f"{settings.supabase_url.rstrip('/')}{path}"
        return ONCE.call(lambda: _data(http.request(method, url, headers=headers, **options)), what)


def _data(response: httpx.Response) -> httpx.Response:
    """The answer; ServiceUnavailable where it is somebody's page."""
    if "html" in response.headers.get("content-type", ""):
        raise not_json(response)
    return response


def claimed_role(key: str) -> str:
    """The role that a key says it has: of a JWT its claim, of the newer keys what their prefix means."""
    if key.startswith("sb_secret_"):
        return "service_role"
    if key.startswith("sb_publishable_"):
        return "anon"
    return str(claims_of(key).get("role", "unknown"))


def identity_is_enough(settings: Settings) -> Iterator[Finding]:
    """Reach, and as which role runs really act: the database is asked, not the key. And what more that role may do."""
    identity = identity_of(settings)
    if identity.kind == "service key" and claimed_role(identity.apikey) != "service_role":
        yield fail(
            "identity",
            f"SUPABASE_SERVICE_KEY looks like a key of the role {claimed_role(identity.apikey)}.",
            "Take the secret key (sb_secret_… or service_role) from Project settings → API keys.",
        )
        return
    try:
        found = _doctor(settings)
        yield from _rights(settings)
    except (RequestRefused, ConfigurationError) as error:
        yield from _not_asked(error, settings)
        return
    yield from _lifetime(settings)
    yield from _clock(found, settings)
    yield from _timeout(found)


def _rights(settings: Settings) -> Iterator[Finding]:
    mine = api_rights(settings)
    if mine.role in ("service_role", "etl"):
        yield ok("identity", str(mine))
    else:
        yield fail("identity", str(mine), "Runs act as etl, or with the secret key as service_role.")
    narrow = identity_of(settings).kind != "service key"
    if narrow and settings.supabase_service_key.get_secret_value():
        text = "SUPABASE_SERVICE_KEY is set too, and not used."
        yield warn("identity", text, "Take it out of the environment and .env: who reads it may do everything.")


def _lifetime(settings: Settings) -> Iterator[Finding]:
    """A token made by hand ends some day, and the night after it fails."""
    if identity_of(settings).kind != "access token":
        return
    expires = expiry_of(claims_of(settings.access_token.get_secret_value()))
    if expires is None:
        yield warn("identity", "ETL_ACCESS_TOKEN never expires.", "Mint one with an end: docs/keys.md.")
    elif expires < datetime.now(UTC) + TOKEN_WARNING:
        yield warn("identity", f"ETL_ACCESS_TOKEN expires on {expires:%Y-%m-%d}.", "Mint the next one: docs/keys.md.")
    else:
        yield ok("identity", f"ETL_ACCESS_TOKEN is valid until {expires:%Y-%m-%d}.")


def _not_asked(error: PipelineError, settings: Settings) -> Iterator[Finding]:
    if getattr(error, "code", None) in ("PGRST202", "42883"):  # a 404 without it is no API of a project
        yield fail("migrations", "The database lacks our functions (etl_doctor).", MIGRATE)
    else:
        yield fail("identity", error.message, error.remedy or advice(error, settings))


def _doctor(settings: Settings) -> dict[str, Any]:
    asked_at = time.time()
    answer = ask(settings, "POST", "/rest/v1/rpc/etl_doctor", what="Asking the database", json={})
    body = answer.json()
    found: dict[str, Any] = json.loads(body) if isinstance(body, str) else body
    return {**found, "asked": (asked_at + time.time()) / 2}


def _clock(found: dict[str, Any], settings: Settings) -> Iterator[Finding]:
    skew = datetime.fromisoformat(found["clock"]).timestamp() - float(found["asked"])
    text = f"The database's clock is {abs(skew):.1f} s {'ahead of' if skew > 0 else 'behind'} this machine's."
    remedy = (
        "Set this machine's clock (NTP). Runs go by the database's, schedules and sessions of the site by this one's."
    )
    if abs(skew) > CLOCK_FAIL_SECONDS:
        yield fail("clock", text, remedy)
    else:
        yield warn("clock", text, remedy) if abs(skew) > CLOCK_WARN_SECONDS else ok("clock", text)


def _timeout(found: dict[str, Any]) -> Iterator[Finding]:
    limit = int(found["statement_timeout_ms"])
    text = f"PostgreSQL {found['version']}; statements over REST end after {limit / 1000:g} s."
    if limit == 0:
        yield ok("statement timeout", f"PostgreSQL {found['version']}; statements over REST have no time limit.")
    elif limit < TIMEOUT_WARN_MS:
        yield warn("statement timeout", text, _longer(found["role"]))
    else:
        yield ok("statement timeout", text)


def _longer(role: str) -> str:
    return f"In the SQL editor: alter role {role} set statement_timeout = '60s'; notify pgrst, 'reload config';"


def public_key_sees_nothing(settings: Settings) -> Iterator[Finding]:
    """The publishable key, which every customer has, must see neither our tables nor our functions."""
    key = settings.supabase_key.get_secret_value()
    if not key:
        yield ok("public key", "SUPABASE_KEY is not set; runs do not need it.")
        return
    if claimed_role(key) == "service_role":
        yield fail("public key", "SUPABASE_KEY is a secret key: it must never reach a client.", "Swap the two keys.")
        return
    opened = [table for table in ("etl_runs", "etl_rejects", *(t.clean for t in TABLES)) if _readable(settings, table)]
    if opened:
        yield fail("public key", f"Anyone can read {', '.join(opened)}.", f"{MIGRATE} It revokes what was granted.")
    else:
        yield ok("public key", f"It acts as {claimed_role(key)} and sees nothing of ours.")


def _readable(settings: Settings, table: str) -> bool:
    """Whether the public key is given rows of it. Refused, absent and empty are all well."""
    key = settings.supabase_key.get_secret_value()
    try:
        answer = ask(settings, "GET", f"/rest/v1/{table}?limit=1", key=key, what=f"Reading {table} with SUPABASE_KEY")
    except RequestRefused:
        return False
    return bool(answer.json())


def tables_are_as_declared(settings: Settings) -> Iterator[Finding]:
    """Our own tables against the contracts, as every run checks them before it reads."""
    with open_database(settings) as database:
        check_schema(database)
    yield ok("tables", f"{', '.join(t.clean for t in TABLES)}, aggregates and rejects: as the contracts declare them.")


def sources_are_whole(settings: Settings) -> Iterator[Finding]:
    """Tables, columns, rights and row-level security: the preflight of every run, which reads no row."""
    from tasks.source import open_source

    with open_source(settings) as source:
        source.preflight(TABLES)
    names = ", ".join(t.at_source for t in TABLES)
    yield ok("sources", f"{names}: columns as declared, seen whole (no row-level security filters them).")


def row_cap(settings: Settings) -> Iterator[Finding]:
    """How many rows an answer holds at most: pages larger than that are cut in silence."""
    asked = settings.page_rows
    if settings.resolved_transport == "postgres":  # the schema of the sources need not be exposed, nor readable there
        yield ok("row cap", "Runs read over Postgres: how many rows an answer of the API holds is the same to them.")
        return
    try:
        given = _rows_given(settings, f"limit={asked}")
    except RequestRefused as error:
        if error.code != NOT_EXPOSED:
            raise
        yield _not_exposed()
        return
    if given < asked and _rows_given(settings, f"limit=1&offset={given}"):
        yield ok("row cap", f"The API gives at most {given:,} rows an answer, of {asked:,} asked; runs go by it.")
    else:
        yield ok("row cap", f"A page of {given:,} keys came whole; no cap below {given:,} rows.")


def _not_exposed() -> Finding:
    """Our functions read rows of any schema that the role may read; counts are asked of the table itself."""
    return warn(
        "row cap",
        f"The API does not expose the schema {USERS.source_schema}: runs read it all the same, page by page to the "
        "empty one, and cannot compare what they read with the count of the rows.",
        "Project settings → Data API → Exposed schemas; or set SUPABASE_DB_URL, which needs none exposed.",
    )


def _rows_given(settings: Settings, page: str) -> int:
    table, key = quote(USERS.source, safe=""), quote(url_column(USERS.key.source_name))
    path = f"/rest/v1/{table}?select={key}&{page}"
    headers = {"Accept-Profile": USERS.source_schema}
    return len(ask(settings, "GET", path, what=f"Reading a page of {USERS.source}", headers=headers).json())


def last_run_is_fresh(settings: Settings) -> Iterator[Finding]:
    """When the last run was committed, and how the last one ended, by the ledger. Those for past instants do not count:
    a backfill stands for no night."""
    path = "/rest/v1/etl_runs?select=status,snapshot_at:began&kind=eq.run&historical=is.false"
    runs, committed = (
        ask(settings, "GET", f"{path}{more}&limit=1", what="Reading the ledger").json()
        for more in ("&order=started_at.desc", "&status=eq.committed&began=not.is.null&order=began.desc")
    )
    if not committed:
        yield ok("last run", "No run has committed yet: `make run`, or start `nightly` in the UI.")
        return
    now = datetime.fromisoformat(_doctor(settings)["clock"])  # it dates the ledger: this machine's may be wrong
    age = now - datetime.fromisoformat(committed[0]["snapshot_at"])
    text = f"The last committed run started to read {age.total_seconds() / 3600:.1f} h ago."
    remedy = "See the runs page of `nightly` in Prefect, and whether a worker runs."
    yield warn("last run", text, remedy) if age.total_seconds() > 26 * 3600 else ok("last run", text)
    if runs[0]["status"] in ("held", "failed"):
        yield warn("last run", f"The last run {runs[0]['status']}.", "Its page in Prefect says why and what to do.")
