"""Poolers: in session mode all works and is left as it was; in transaction mode nothing is set before it is refused."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from pathlib import Path

import psycopg
import pytest
from adbc_driver_postgresql import dbapi

from deploy.migrations import migrate
from local_stack import Stack
from tasks.errors import ConfigurationError
from tasks.platform import postgres
from tasks.platform.postgres import connect, execute, release
from tasks.source import open_source
from tests.platform.pgbouncer import pgbouncer
from tests.source.kit import posts_at, read, settings_for, source_table

SETTINGS = (
    "role",
    "statement_timeout",
    "lock_timeout",
    "timezone",
    "idle_in_transaction_session_timeout",
    "default_transaction_isolation",
    "work_mem",
    "jit",
)
_CLIENTS = 6
_LOCKS = """
select count(*) from pg_locks l join pg_database d on d.oid = l.database
where l.locktype = 'advisory' and d.datname = current_database()"""


def sessions(url: str) -> set[tuple[str, ...]]:
    """What clients of the pooler are given: the settings of several of its backends at once."""
    shown = ", ".join(f"current_setting('{name}')" for name in SETTINGS)
    found: set[tuple[str, ...]] = set()
    with ExitStack() as stack:
        for _ in range(_CLIENTS):
            client = stack.enter_context(psycopg.connect(url, prepare_threshold=None))
            found.add(client.execute(f"select {shown}".encode()).fetchone())  # type: ignore[arg-type]
    return found


@pytest.mark.parametrize("round_robin", [False, True])
@pytest.mark.parametrize("others", [0, 3])
def test_a_transaction_pooler_is_refused_and_left_as_it_was(
    stack: Stack, tmp_path: Path, round_robin: bool, others: int
) -> None:
    with pgbouncer(stack, "transaction", round_robin=round_robin) as url, ExitStack() as busy:
        for _ in range(others):  # clients that came before us, so that the pool has several backends
            busy.enter_context(psycopg.connect(url, prepare_threshold=None)).execute("select 1")
        before = sessions(url)
        settings = settings_for(stack, "postgres", tmp_path, supabase_db_url=url)
        with pytest.raises(ConfigurationError, match="pooler in transaction mode") as caught:
            connect(settings)
        assert sessions(url) == before
        assert "session pooler (port 5432)" in caught.value.remedy


def test_the_port_of_the_transaction_pooler_is_refused_before_anything_connects(stack: Stack, tmp_path: Path) -> None:
    url = "postgresql://postgres:secret-word@no-such-host.invalid:6543/postgres"
    settings = settings_for(stack, "postgres", tmp_path, supabase_db_url=url)
    with pytest.raises(ConfigurationError, match="port 6543") as caught, open_source(settings) as source:
        source.preflight([posts_at("posts")])
    assert "secret-word" not in str(caught.value)


def test_a_session_pooler_serves_and_is_left_as_it_was(stack: Stack, tmp_path: Path) -> None:
    """Also one that resets nothing: two migrators that take turns would wait for the lock of the first for good."""
    with source_table(stack, rows=9_000) as name, pgbouncer(stack, "session", resets=False) as url:
        before = sessions(url)
        rows, _ = read(settings_for(stack, "postgres", tmp_path, supabase_db_url=url), posts_at(name), tmp_path)
        assert rows.num_rows == 9_000
        assert sessions(url) == before
        assert migrate(url) == []
        assert sessions(url) == before
        assert stack.query(_LOCKS) == "0"


def test_types_are_asked_for_once_and_one_that_is_made_later_is_read(
    stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    connect_plain = dbapi.connect

    def ask(url: str, *, autocommit: bool) -> dbapi.Connection:
        asked.append(url)
        return connect_plain(url, autocommit=autocommit)

    monkeypatch.setattr(postgres, "_VERIFIED", {})
    monkeypatch.setattr(dbapi, "connect", ask)
    settings = settings_for(stack, "postgres", tmp_path)
    release(connect(settings))
    with source_table(stack, rows=90) as name:
        stack.query(f"create type {name}_mood as enum ('some words'); update {name} set content = 'some words'")
        stack.query(f"alter table {name} alter column content type {name}_mood using content::{name}_mood")
        try:
            rows, _ = read(settings, posts_at(name), tmp_path)
        finally:
            stack.query(f"drop type {name}_mood cascade")
    assert set(rows["content"].to_pylist()) == {"some words"}
    assert len(asked) == 1


@pytest.mark.parametrize("autocommit", [True, False])
def test_a_released_connection_leaves_no_setting_and_no_table(stack: Stack, tmp_path: Path, autocommit: bool) -> None:
    """Also where the pooler does not reset what it is given back, and in the middle of a transaction that failed."""
    settings = settings_for(stack, "postgres", tmp_path)
    connection = connect(settings, autocommit=autocommit, session={"work_mem": "77MB"})
    with suppress(dbapi.Error):
        execute(connection, f"{'begin;' if autocommit else ''} select 1 / 0")
    seen: list[str] = []
    close = connection.close

    def closing() -> None:
        with connection.cursor() as cursor:
            cursor.execute("select current_setting('role') || ' ' || current_setting('work_mem')")
            seen.append(str((cursor.fetchone() or [""])[0]))
        close()

    connection.close = closing  # type: ignore[method-assign]
    release(connection)
    assert seen == [f"none {stack.query('show work_mem')}"]
