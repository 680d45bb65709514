"""The doctor: a sound project is found sound; each common trouble is named in a line, with its remedy and no secret."""

from __future__ import annotations

from dataclasses import replace

import httpx
import pytest

from deploy.migrations import migrate
from flows.engine.outcome import RunRequest
from flows.engine.pipeline import run_pipeline
from local_stack import Stack
from scripts import doctor as command
from tasks.contracts import USERS
from tasks.doctor import Finding, examine, line, live, project, sound
from tasks.errors import ConfigurationError
from tasks.ledger.as_of import AsOf
from tasks.live import counts
from tasks.settings import load_settings


def findings(*, transport: str = "auto") -> dict[str, Finding]:
    """The worst finding of each check."""
    worst: dict[str, Finding] = {}
    for found in sorted(examine(transport=transport), key=lambda f: ("ok", "warn", "fail").index(f.level)):
        worst[found.check] = found
    return worst


@pytest.mark.parametrize("transport", ["rest", "postgres"])
def test_a_sound_project_is_found_sound(healthy: Stack, transport: str) -> None:
    found = list(examine(transport=transport))
    assert sound(found), [line(f) for f in found if f.level != "ok"]
    assert {"settings", "identity", "clock", "sources", "bucket", "upload", "row cap"} <= {f.check for f in found}


def test_the_age_of_the_last_run_is_by_the_clock_that_dates_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that is a day behind said that it started -24 h ago, and found no night missing."""

    def ask(_settings: object, _method: str, path: str, **_: object) -> httpx.Response:
        if "etl_runs" in path:
            return httpx.Response(200, json=[{"status": "committed", "snapshot_at": "2999-01-01T00:00:00+00:00"}])
        return httpx.Response(200, json={"clock": "2999-01-02T06:00:00+00:00"})

    monkeypatch.setattr(project, "ask", ask)
    (found,) = project.last_run_is_fresh(load_settings(supabase_url="http://127.0.0.1:1", supabase_service_key="x"))
    assert (found.level, found.what) == ("warn", "The last committed run started to read 30.0 h ago.")


def test_the_last_run_is_the_one_that_readers_see_behind_failures_and_beside_backfills(healthy: Stack) -> None:
    """Twenty failures, a day of a watch's tries, hid it, and a backfill passed for a night."""
    columns = "run_id, token, transport, as_of_mode, lease_seconds, status, historical, began, started_at"
    row = "gen_random_uuid(), 'rest', 'now', 1"
    three_days_ago = "now() - interval '72 hours'"
    healthy.query(
        f"insert into public.etl_runs ({columns}) values ('doc-0', {row}, 'committed', false, {three_days_ago}, now())"
        f", ('doc-1', {row}, 'committed', true, now(), now());"
        f"insert into public.etl_runs ({columns})"
        f" select 'doc-2-' || i, {row}, 'failed', false, now(), now() + interval '1 day' from generate_series(1, 20) i"
    )
    try:
        said = [finding.what for finding in project.last_run_is_fresh(load_settings())]
    finally:
        healthy.query("delete from public.etl_runs where run_id like 'doc-%'")
    assert said == ["The last committed run started to read 72.0 h ago.", "The last run failed."]


def test_a_source_and_a_key_of_any_name_are_asked_for(healthy: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[httpx.URL] = []

    def ask(_settings: object, _method: str, path: str, **_: object) -> httpx.Response:
        asked.append(httpx.URL(f"http://x{path}"))
        return httpx.Response(200, json=[])

    key = replace(USERS.key, source="id,nr.#1")
    monkeypatch.setattr(project, "USERS", replace(USERS, source="Leute? 5%/x", columns=(key, *USERS.columns[1:])))
    monkeypatch.setattr(project, "ask", ask)
    assert [found.level for found in project.row_cap(load_settings(transport="rest"))] == ["ok"]
    assert asked[0].raw_path.startswith(b"/rest/v1/Leute%3F%205%25%2Fx?")
    assert asked[0].params["select"] == '"id,nr.#1"'


def test_rows_that_are_gone_since_the_table_was_analyzed_are_no_cap(healthy: Stack) -> None:
    healthy.query(
        "insert into public.users (name, status, created_at) select 'Ana', 'active', now() from generate_series(1, 99);"
        "analyze public.users; delete from public.posts; delete from public.users"
    )
    assert findings(transport="rest")["row cap"].what == "A page of 0 keys came whole; no cap below 0 rows."


def test_sources_in_a_schema_that_the_api_does_not_expose_keep_no_run_back(
    healthy: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over Postgres nothing needs to be exposed; over REST our functions read it, and only the count is missing."""
    monkeypatch.setattr(project, "USERS", replace(USERS, source_schema="Product"))
    assert findings(transport="postgres")["row cap"].level == "ok"
    found = findings(transport="rest")["row cap"]
    assert (found.level, found.remedy.partition(";")[0]) == (
        "warn",
        "Project settings → Data API → Exposed schemas",
    )
    assert "does not expose the schema Product" in found.what


def test_the_probe_is_gone_again(healthy: Stack) -> None:
    assert findings()["upload"].level == "ok"
    assert healthy.query("select count(*) from storage.objects where name like 'doctor/%'") == "0"


@pytest.mark.parametrize(
    ("name", "value", "check", "says"),
    [
        ("SUPABASE_URL", "http://127.0.0.1:1", "identity", "status.supabase.com"),
        ("SUPABASE_URL", "nonsense", "settings", "Correct them"),
        ("SUPABASE_URL", "http://example.org", "settings", "https://"),
        ("SUPABASE_SERVICE_KEY", "sb_secret_wrong", "identity", "secret key"),
        ("SUPABASE_SERVICE_KEY", "sb_publishable_x", "identity", "secret key"),
        ("SUPABASE_SERVICE_KEY", "", "settings", "Set it"),
        ("SUPABASE_DB_URL", "postgresql://postgres:wrong@127.0.0.1:1/postgres", "postgres", "SUPABASE_DB_URL"),
        ("ETL_DB_ROLE", "nobody_of_that_name", "postgres", "make migrate"),
        ("ETL_BUCKET", "elsewhere", "bucket", "ETL_BUCKET"),
        ("ETL_BUCKET", "elsewhere", "upload", "ETL_BUCKET"),
        ("ETL_RANGES", "many", "settings", "Correct them"),
    ],
)
def test_a_trouble_is_named_with_its_remedy(
    healthy: Stack, monkeypatch: pytest.MonkeyPatch, name: str, value: str, check: str, says: str
) -> None:
    monkeypatch.setenv(name, value)
    found = findings()
    assert found[check].level == "fail"
    assert says in found[check].remedy


def test_a_wrong_password_is_distinguished_from_a_dead_host(healthy: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    host = healthy.db_url.rpartition("@")[2]
    monkeypatch.setenv("SUPABASE_DB_URL", f"postgresql://postgres:wrong@{host}")
    assert "refused user or password" in findings()["postgres"].what


def test_a_table_that_anyone_can_read_is_found(healthy: Stack) -> None:
    healthy.query(
        "grant select on public.etl_runs to anon;"
        "create policy leak on public.etl_runs for select to anon using (true);"
        "insert into public.etl_runs (run_id, token, status, transport, as_of_mode, lease_seconds)"
        " values ('leak', gen_random_uuid(), 'failed', 'rest', 'now', 1)"
    )
    try:
        assert "Anyone can read etl_runs" in findings()["public key"].what
    finally:
        healthy.query(
            "drop policy leak on public.etl_runs; revoke select on public.etl_runs from anon;"
            "delete from public.etl_runs where run_id = 'leak'"
        )


@pytest.mark.parametrize("transport", ["rest", "postgres"])
def test_what_somebody_dropped_or_revoked_is_found_as_a_run_would(healthy: Stack, transport: str) -> None:
    role = "service_role" if transport == "rest" else "etl"
    healthy.query(
        f"revoke execute on function public.etl_commit from {role}; revoke insert on public.etl_batches from {role};"
        "drop function public.etl_beat; drop trigger etl_move_base on public.etl_runs"
    )
    try:
        found = findings(transport=transport)["tables"]
    finally:
        migrate(healthy.db_url)
    assert found.level == "fail"
    for said in (f"{role} may not call etl_commit", f"{role} lacks insert on etl_batches", "no function etl_beat;"):
        assert said in found.what
    assert "the trigger etl_move_base of etl_runs is gone" in found.what
    assert found.remedy.startswith("Run `make migrate`")
    assert findings(transport=transport)["tables"].level == "ok"


def test_a_policy_of_our_tables_that_is_gone_is_found_before_a_run_reads(healthy: Stack) -> None:
    """A run read everything again, as what it had written was hidden, and was refused at the load."""
    healthy.query(
        "drop policy etl_all on public.clean_posts; drop policy etl_all on public.etl_base;"
        "create policy strict on public.etl_reject_rows as restrictive for select to etl using (false)"
    )
    said: list[str] = []
    try:
        found = findings(transport="postgres")["tables"]
        with pytest.raises(ConfigurationError) as refused:
            run_pipeline(RunRequest(as_of=AsOf.parse("now"), transport="postgres", dry_run=True))
        assert findings(transport="rest")["tables"].level == "ok"  # the secret key passes row-level security
        migrate(healthy.db_url, say=said.append)
        left = findings(transport="postgres")["tables"].what
    finally:
        healthy.query("drop policy strict on public.etl_reject_rows")
    assert found.level == "fail"
    assert "hides rows of clean_posts, etl_base, etl_reject_rows from etl: the policy etl_all is gone" in found.what
    assert found.remedy.startswith("Run `make migrate`")
    assert refused.value.message == found.what
    assert said[0].count("create policy etl_all on public.") == 2, said
    assert "hides rows of etl_reject_rows from etl" in left
    assert findings(transport="postgres")["tables"].level == "ok"


def test_no_finding_holds_a_secret(healthy: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ETL_BUCKET", "elsewhere")
    said = "\n".join(line(found) for found in examine())
    env = healthy.env()
    assert [name for name in ("SUPABASE_KEY", "SUPABASE_SERVICE_KEY", "SUPABASE_DB_URL") if env[name] in said] == []


def test_the_command_exits_with_one_when_something_fails(
    healthy: Stack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main([]) == 0
    monkeypatch.setenv("SUPABASE_SERVICE_KEY", "sb_secret_wrong")
    assert command.main([]) == 1
    assert "✗" in capsys.readouterr().out


def test_realtime_is_named_with_the_statement_that_enables_it(healthy: Stack) -> None:
    found = findings()["realtime"]
    assert "not enabled" in found.what
    assert "alter publication supabase_realtime add table" in found.remedy
    statement = found.remedy.partition(": ")[2]
    healthy.query(statement)
    try:
        assert "enabled for all sources" in findings()["realtime"].what
    finally:
        healthy.query("drop publication supabase_realtime")


def test_a_partitioned_source_counts_as_published_once_what_is_said_of_it_is_done(
    healthy: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    partitioned = replace(USERS, name="partitioned", source="partitioned")
    monkeypatch.setattr(live, "TABLES", (partitioned,))
    monkeypatch.setattr(counts, "TABLES", (partitioned,))
    healthy.query(
        "create table public.partitioned (id uuid) partition by hash (id);"
        "create table public.partitioned_0 partition of public.partitioned for values with (modulus 1, remainder 0)"
    )
    try:
        statement, _, more = findings()["realtime"].remedy.partition(": ")[2].partition(" -- ")
        healthy.query(statement)
        assert "not enabled" in findings()["realtime"].what
        assert "Leave views out" in more
        healthy.query(more.partition(": ")[2])
        assert "enabled for all sources" in findings()["realtime"].what
    finally:
        healthy.query("drop publication if exists supabase_realtime; drop table public.partitioned")
