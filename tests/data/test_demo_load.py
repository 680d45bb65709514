"""The demo in a real database: what the plan promises, counted again by SQL that knows nothing of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from data.demo import DemoCounts, __main__, load
from data.demo.sources import SOURCES
from local_stack import Stack
from tasks.contracts import USERS
from tasks.errors import ConfigurationError, ServiceUnavailable

UNTIL = datetime(2026, 2, 1, tzinfo=UTC)
FIGURES = (Path(__file__).parent / "figures.sql").read_text()
DIGEST = "select md5(string_agg(t::text, '' order by id)) from public.{} t"


@pytest.fixture
def counts(clean_stack: Stack) -> DemoCounts:
    return load(clean_stack.db_url, 2_000, 6_000, until=UNTIL)


def digests(stack: Stack) -> list[str]:
    return [stack.query(DIGEST.format(table)) for table in ("users", "posts")]


@pytest.mark.parametrize("later", [timedelta(0), timedelta(hours=9), timedelta(days=4 * 365)])
def test_the_definitions_in_sql_give_the_planned_figures(
    clean_stack: Stack, counts: DemoCounts, later: timedelta
) -> None:
    variables = {"snapshot_at": (UNTIL + later).isoformat(), "as_of": UNTIL.isoformat()}
    lines = [line.split("|") for line in clean_stack.query(FIGURES, variables).splitlines()]
    found = {(table, rule): (int(checked), int(affected)) for table, rule, checked, affected in lines}
    late = {(table, "late"): (counts[table].kept, counts[table].late) for table in ("users", "posts")}
    assert found == counts.quality() | late


def test_instants_that_arrow_cannot_name_arrive(clean_stack: Stack) -> None:
    load(clean_stack.db_url, 300, 15_000, until=UNTIL)
    column = "select distinct created_at from public.posts union select distinct updated_at from public.posts"
    found = clean_stack.query(f"""
        select i in ({column}) from unnest(array[
            'infinity', '-infinity', '0001-01-01', '1969-12-31 23:59:59.999999', '1970-01-01',
            '9999-12-31 23:59:59.999999', '10000-01-01', '82000-01-01']::timestamptz[]) i""")
    assert found.split() == ["t"] * 8


def test_ids_are_uuids_of_version_4_and_rows_are_all_there(clean_stack: Stack, counts: DemoCounts) -> None:
    for table in ("users", "posts"):
        found = clean_stack.query(f"select count(*), bool_and(uuid_extract_version(id) = 4) from public.{table}")
        assert found == f"{counts[table].rows}|t"


def test_the_same_arguments_fill_a_database_the_same(clean_stack: Stack, counts: DemoCounts) -> None:
    before = digests(clean_stack)
    clean_stack.query("truncate public.users, public.posts")
    assert load(clean_stack.db_url, 2_000, 6_000, until=UNTIL) == counts
    assert digests(clean_stack) == before


@pytest.mark.usefixtures("counts")
def test_tables_with_rows_are_left_alone(clean_stack: Stack) -> None:
    before = digests(clean_stack)
    with pytest.raises(ConfigurationError, match=r"public\.users holds rows"):
        load(clean_stack.db_url, 500, 500, until=UNTIL)
    assert digests(clean_stack) == before


def test_a_failure_within_a_load_writes_nothing(clean_stack: Stack) -> None:
    def stop(done: int, total: int | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load(clean_stack.db_url, 500, 500, until=UNTIL, progress=stop)
    assert clean_stack.query("select count(*) from public.users") == "0"


def test_progress_ends_with_all_rows(clean_stack: Stack) -> None:
    seen: list[tuple[int, int | None]] = []
    load(clean_stack.db_url, 300, 400, until=UNTIL, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(300, 700), (700, 700)]


def test_sources_as_somebody_declares_them_are_filled(clean_stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other names and no `bio`, as the README's *Change it* has it: `make run` ended with the demo data."""
    columns = tuple(replace(c, source="full %s") if c.name == "name" else c for c in USERS.columns if c.name != "bio")
    people = replace(USERS, source="people %s", source_schema="own names", columns=columns)
    monkeypatch.setitem(SOURCES, "users", people)
    clean_stack.query(
        'create schema "own names"; create table "own names"."people %s" '
        '(id uuid, "full %s" text, email text, status text, created_at timestamptz, updated_at timestamptz)'
    )
    try:
        load(clean_stack.db_url, 300, 0, until=UNTIL)
        assert int(clean_stack.query('select count("full %s") from "own names"."people %s"')) > 250
        clean_stack.query('truncate "own names"."people %s"; alter table "own names"."people %s" drop status')
        with pytest.raises(
            ConfigurationError, match=r"own names\.people %s and public\.posts, or columns of theirs, are"
        ):
            load(clean_stack.db_url, 300, 0, until=UNTIL)
    finally:
        clean_stack.query('drop schema "own names" cascade')
    bigint = (replace(people.key, kind="bigint"), *columns[1:])
    monkeypatch.setitem(SOURCES, "users", replace(people, columns=bigint))
    with pytest.raises(ConfigurationError, match=r"none in users\.id\. Nothing was written"):
        load(clean_stack.db_url, 300, 0, until=UNTIL)


def test_a_database_without_the_tables_is_named_as_the_cause(stack: Stack) -> None:
    with pytest.raises(ConfigurationError, match="missing"):
        load(_in_database(stack.db_url, "template1"), 300, 300, until=UNTIL)


def test_a_database_that_is_away_is_no_fault_of_the_data() -> None:
    with pytest.raises(ServiceUnavailable, match="nothing was written"):
        load("postgresql://postgres:secret@127.0.0.1:1/postgres", 300, 300, until=UNTIL)


def test_the_command_fills_the_database_of_the_environment(
    clean_stack: Stack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SUPABASE_DB_URL", clean_stack.db_url)
    arguments = ["--users", "300", "--posts", "400", "--until", "2026-02-01T00:00:00Z"]
    assert __main__.main(arguments) == 0
    assert "300 users" in capsys.readouterr().err
    assert clean_stack.query("select count(*) from public.posts") == "400"
    assert __main__.main(arguments) == 1
    assert "holds rows" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    "arguments", [[], ["--users", "5"], ["--posts", "many"], ["--until", "2026-02-01"]], ids=" ".join
)
def test_bad_usage_ends_with_2(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SUPABASE_DB_URL", raising=False)
    if arguments:
        monkeypatch.setenv("SUPABASE_DB_URL", "postgresql://127.0.0.1:1/none")
    with pytest.raises(SystemExit) as end:
        __main__.main(arguments)
    assert end.value.code == 2


def _in_database(db_url: str, database: str) -> str:
    return f"{db_url.rsplit('/', 1)[0]}/{database}"
