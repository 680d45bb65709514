"""Checks of the project over HTTP: reach, keys and their roles, clock, limits, tables, rights."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import httpx

from tasks.contracts import TABLES, USERS
from tasks.doctor.findings import ONCE, Finding, advice, fail, ok, warn
from tasks.errors import RequestRefused
from tasks.platform.functions import open_database
from tasks.platform.http import make_http, not_json
from tasks.settings import Settings
from tasks.sink.schema import check_schema

MIGRATE = "Run `make migrate` (it needs SUPABASE_DB_URL)."
CLOCK_WARN_SECONDS = 5.0
CLOCK_FAIL_SECONDS = 120.0
TIMEOUT_WARN_MS = 8_000


def ask(settings: Settings, method: str, path: str, *, key: str, what: str, **options: Any) -> httpx.Response:
    """One request as the holder of `key`, tried once. Raises the errors of ours."""
    headers = {"apikey": key, **options.pop("headers", {})}
    if key.count(".") == 2:  # only a JWT is a bearer token; the newer keys are not
        headers["Authorization"] = f"Bearer {key}"
    with make_http(settings) as http:
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
    try:
        body = key.split(".")[1]
        return str(json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))["role"])
    except (IndexError, ValueError, KeyError):
        return "unknown"


def service_key_is_the_service(settings: Settings) -> Iterator[Finding]:
    """Reach, and which role SUPABASE_SERVICE_KEY really has: the database is asked, not the key."""
    key = settings.supabase_service_key.get_secret_value()
    claimed = claimed_role(key)
    if claimed != "service_role":
        yield fail(
            "service key",
            f"SUPABASE_SERVICE_KEY looks like a key of the role {claimed}.",
            "Take the secret key (sb_secret_… or service_role) from Project settings → API keys.",
        )
        return
    try:
        told = _doctor(settings)
    except RequestRefused as error:
        yield from _not_asked(error)
        return
    if told["role"] == "service_role" and told["bypasses_rls"]:
        yield ok("service key", "It acts as service_role, past row-level security.")
    else:
        yield fail("service key", f"It acts as {told['role']}, under row-level security.", "Use the secret key.")
    yield from _clock(told, settings)
    yield from _timeout(told)


def _not_asked(error: RequestRefused) -> Iterator[Finding]:
    if error.code in ("PGRST202", "42883"):  # a 404 without it is no API of a project: the address is wrong
        yield fail("migrations", "The database lacks our functions (etl_doctor).", MIGRATE)
    else:
        yield fail("service key", error.message, error.remedy or advice(error))


def _doctor(settings: Settings) -> dict[str, Any]:
    key = settings.supabase_service_key.get_secret_value()
    began = time.time()
    answer = ask(settings, "POST", "/rest/v1/rpc/etl_doctor", key=key, what="Asking the database", json={})
    body = answer.json()
    told: dict[str, Any] = json.loads(body) if isinstance(body, str) else body
    return {**told, "asked": (began + time.time()) / 2}


def _clock(told: dict[str, Any], settings: Settings) -> Iterator[Finding]:
    skew = datetime.fromisoformat(told["clock"]).timestamp() - float(told["asked"])
    text = f"The database's clock is {abs(skew):.1f} s {'ahead of' if skew > 0 else 'behind'} this machine's."
    mend = "Set this machine's clock (NTP). Runs go by the database's, schedules and signed links by this one's."
    if abs(skew) > CLOCK_FAIL_SECONDS:
        yield fail("clock", text, mend)
    else:
        yield warn("clock", text, mend) if abs(skew) > CLOCK_WARN_SECONDS else ok("clock", text)


def _timeout(told: dict[str, Any]) -> Iterator[Finding]:
    limit = int(told["statement_timeout_ms"])
    text = f"PostgreSQL {told['version']}; statements over REST end after {limit / 1000:g} s."
    if limit == 0:
        yield ok("statement timeout", f"PostgreSQL {told['version']}; statements over REST have no time limit.")
    elif limit < TIMEOUT_WARN_MS:
        yield warn("statement timeout", text, "alter role service_role set statement_timeout = '60s'; then reload.")
    else:
        yield ok("statement timeout", text)


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
    names = " and ".join(f"{t.source_schema}.{t.source}" for t in TABLES)
    yield ok("sources", f"{names}: columns as declared, seen whole (no row-level security filters them).")


def row_cap(settings: Settings) -> Iterator[Finding]:
    """How many rows an answer holds at most: pages larger than that are cut in silence."""
    asked = settings.page_rows
    path = f"/rest/v1/{USERS.source}?select={USERS.key.source_name}&limit={asked}"
    key = settings.supabase_service_key.get_secret_value()
    headers = {"Prefer": "count=estimated", "Accept-Profile": USERS.source_schema}
    answer = ask(settings, "GET", path, key=key, what=f"Reading a page of {USERS.source}", headers=headers)
    given, total = len(answer.json()), _total(answer)
    if given == asked or total <= given:
        yield ok("row cap", f"A page of {given:,} keys came whole; no cap below {given:,} rows.")
    else:
        yield ok("row cap", f"The API gives at most {given:,} rows an answer, of {asked:,} asked; runs go by it.")


def _total(answer: httpx.Response) -> int:
    total = answer.headers.get("content-range", "").rpartition("/")[2]
    return int(total) if total.isdigit() else 0


def last_run_is_fresh(settings: Settings) -> Iterator[Finding]:
    """How the last runs ended, by the ledger."""
    path = "/rest/v1/etl_runs?select=status,as_of,began&order=began.desc.nullslast&limit=20"
    key = settings.supabase_service_key.get_secret_value()
    runs = ask(settings, "GET", path, key=key, what="Reading the ledger").json()
    committed = next((run for run in runs if run["status"] == "committed"), None)
    if committed is None:
        yield ok("last run", "No run has committed yet: `make run`, or start `nightly` in the UI.")
        return
    age = datetime.now(UTC) - datetime.fromisoformat(committed["began"])
    text = f"The last committed run began {age.total_seconds() / 3600:.1f} h ago."
    mend = "See the runs page of `nightly` in Prefect, and whether a worker runs."
    yield warn("last run", text, mend) if age.total_seconds() > 26 * 3600 else ok("last run", text)
    if runs[0]["status"] in ("held", "failed"):
        yield warn("last run", f"The last run {runs[0]['status']}.", "Its page in Prefect says why and what to do.")
