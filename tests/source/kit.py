"""What the tests of reading share: settings for a stack, tables of their own, and a read from end to end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pyarrow as pa

from local_stack import Stack
from local_stack.tests.conftest import reload_schema
from tasks.contracts import POSTS, Column, Kind, Table
from tasks.settings import Settings, Transport
from tasks.source import TableRead, open_source
from tasks.workspace import Spool

COLUMNS = "user_id uuid, title text, content text, created_at timestamptz, updated_at timestamptz"
FILL = """
insert into public.{table} (id, user_id, title, content, created_at, updated_at)
select {key}, gen_random_uuid(), 'title ' || g, repeat('word ', 1 + g % 30), now() - g * interval '1 minute', now()
from generate_series(1, {rows}) g
"""
KEYS: dict[Kind, str] = {"uuid": "gen_random_uuid()", "bigint": "g * 3"}


def settings_for(stack: Stack, transport: Transport, folder: Path, **more: object) -> Settings:
    """Settings that read from the stack, with pauses so short that a test can have many."""
    values: dict[str, object] = {
        "supabase_url": stack.url,
        "supabase_service_key": stack.service_key,
        "supabase_db_url": stack.db_url,
        "transport": transport,
        "data_dir": folder,
        "retry_base": 0.02,
    }
    return Settings(_env_file=None, **{**values, **more})  # type: ignore[arg-type]


def posts_at(source: str, kind: Kind = "uuid", columns: tuple[Column, ...] | None = None) -> Table:
    """The contract of posts over another table, with another kind of key or other columns."""
    key = replace(POSTS.columns[0], kind=kind)
    return replace(POSTS, source=source, columns=(key, *(columns or POSTS.columns[1:])))


@contextmanager
def source_table(stack: Stack, *, key: Kind = "uuid", rows: int = 0, columns: str = COLUMNS) -> Iterator[str]:
    """A table of posts of its own, readable by the service and by etl; its name."""
    name = f"posts_{uuid4().hex[:12]}"
    stack.query(
        f"create table public.{name} (id {key} primary key, {columns}); "
        f"grant select on public.{name} to service_role, etl"
    )
    if rows:
        stack.query(FILL.format(table=name, key=KEYS[key], rows=rows))
    reload_schema(stack)
    try:
        yield name
    finally:
        stack.query(f"drop table public.{name} cascade")


def spool_at(folder: Path, table: Table) -> Spool:
    return Spool(folder / "raw" / table.name, table.raw_schema)


def read(settings: Settings, table: Table, folder: Path) -> tuple[pa.Table, TableRead]:
    """A whole table through the source, as it lies in the spool afterwards."""
    spool = spool_at(folder, table)
    with open_source(settings) as source:
        source.preflight([table])
        done = source.read(table, spool)
    return spool.table(), done
