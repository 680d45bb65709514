"""While writers insert, update and delete without pause, every row that was there throughout is read once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
import pyarrow.compute as pc
import pytest

from local_stack import Stack
from tasks.contracts import Kind
from tasks.settings import Transport
from tasks.source import rest
from tasks.source.alarm import verify_range
from tasks.source.api import Api
from tasks.source.model import TableInfo
from tasks.source.patch import Bounds
from tasks.source.ranges import KeyRange
from tasks.workspace import Spool
from tests.source.kit import posts_at, read, settings_for, source_table

ROWS = 50_000
# A row's content is its key and a number; `title` marks the rows that nobody deletes.
FILL = """
insert into public.{table} (id, title, content)
select key, case when g % 5 > 0 then 'stays' else 'goes' end, key || ':0'
from (select {key} as key, g from generate_series(1, {rows}) g) made
"""
CHURN = """
with changed as (
  update public.{table} set content = id || ':' || (split_part(content, ':', 2)::int + 1)
  where id in (select id from public.{table} tablesample system (2)) returning 1
), gone as (
  delete from public.{table} where title = 'goes'
  and id in (select id from public.{table} tablesample system (0.5)) returning 1
)
insert into public.{table} (id, title, content)
select key, 'goes', key || ':0' from (select {key} as key, g from generate_series(1, 50) g) made
on conflict do nothing
"""
KEYS: dict[Kind, tuple[str, str]] = {
    "uuid": ("gen_random_uuid()", "gen_random_uuid()"),
    "bigint": ("g * 10", "(random() * 500000)::bigint * 10 + g % 9 + 1"),
}


@contextmanager
def writers(stack: Stack, statement: str, count: int = 2) -> Iterator[list[int]]:
    """Active writers; the list holds how many statements each committed."""
    stop, done = threading.Event(), [0] * count

    def work(number: int) -> None:
        with psycopg.connect(stack.db_url, autocommit=True) as connection:
            while not stop.is_set():
                try:
                    connection.execute(statement)
                    done[number] += 1
                except psycopg.errors.DeadlockDetected:
                    continue

    threads = [threading.Thread(target=work, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield done
    finally:
        stop.set()
        for thread in threads:
            thread.join()


@pytest.mark.parametrize(("transport", "kind"), [("rest", "uuid"), ("rest", "bigint"), ("postgres", "uuid")])
def test_nothing_is_lost_and_nothing_comes_twice(
    stack: Stack, transport: Transport, kind: Kind, tmp_path: Path
) -> None:
    first, later = KEYS[kind]
    with source_table(stack, key=kind) as name:
        stack.query(FILL.format(table=name, key=first, rows=ROWS))
        stays = set(stack.query(f"select id from public.{name} where title = 'stays'").split())
        with writers(stack, CHURN.format(table=name, key=later)) as done:
            rows, _ = read(settings_for(stack, transport, tmp_path), posts_at(name, kind), tmp_path)
    keys = [str(key) for key in rows["id"].to_pylist()]
    assert sum(done) > 1
    assert len(set(keys)) == len(keys)
    assert stays <= set(keys)
    owners = pc.list_element(pc.split_pattern(rows["content"], ":"), 0)
    assert owners.to_pylist() == keys  # each with a value it had


def test_what_corrects_a_range_sees_that_range_alone(
    stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ranges are read at once: a row that is put into the file of another one goes with that, or is lost."""
    seen = set[int]()

    def verify(api: Api, info: TableInfo, within: KeyRange, spool: Spool, rows: int, bounds: Bounds) -> str:
        with suppress(threading.BrokenBarrierError):
            both.wait(20)  # until another range is read as well
        assert [int(path.stem) for path in spool.files()] == [within.index]
        seen.add(within.index)
        return verify_range(api, info, within, spool, rows, bounds)

    both = threading.Barrier(2)
    monkeypatch.setattr(rest, "verify_range", verify)
    with source_table(stack, key="bigint") as name:
        stack.query(FILL.format(table=name, key=KEYS["bigint"][0], rows=ROWS))
        read(settings_for(stack, "rest", tmp_path), posts_at(name, "bigint"), tmp_path)
    assert len(seen) > 1
