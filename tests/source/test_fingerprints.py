"""A row's fingerprint changes when what is read of it changes, and only then; on both transports it is the same one."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

from local_stack import Stack
from local_stack.tests.conftest import reload_schema
from tasks.contracts import Column, Table
from tests.source.kit import posts_at, read, settings_for, source_table

COLUMNS = (
    Column("user_id", "uuid", ""),
    Column("content", "text", "", optional=True),
    Column("mood", "text", "", optional=True),
    Column("score", "float", "", optional=True),
)


def fingerprints(stack: Stack, table: Table, folder: Path) -> dict[int, int]:
    """By key, as both transports read them."""
    reload_schema(stack)
    found = []
    for transport in ("rest", "postgres"):
        rows, _ = read(settings_for(stack, transport, folder), table, folder / uuid4().hex)
        found.append(dict(zip(rows["id"].to_pylist(), rows["_fingerprint"].to_pylist(), strict=True)))
    assert found[0] == found[1]
    return found[0]


def changed(before: dict[int, int], after: dict[int, int]) -> set[int]:
    return {key for key in {*before, *after} if before.get(key) != after.get(key)}


def test_a_fingerprint_is_of_what_is_read(stack: Stack, tmp_path: Path) -> None:
    mood = f"mood_{uuid4().hex[:8]}"
    stack.query(f"create type {mood} as enum ('happy', 'sad')")
    with source_table(stack, key="bigint", columns=f"user_id uuid, content text, mood {mood}, score real") as name:
        stack.query(f"""insert into {name} (id, content, mood, score) values
            (1, 'a', 'happy', 0.5), (2, 'b', 'sad', 0.1), (3, null, null, null), (4, 'd', 'sad', 'NaN')""")
        table = posts_at(name, "bigint", COLUMNS)
        first = fingerprints(stack, table, tmp_path)
        assert fingerprints(stack, table, tmp_path) == first
        stack.query(f"alter type {mood} rename value 'happy' to 'glad'")  # no row is written
        renamed = fingerprints(stack, table, tmp_path)
        assert changed(first, renamed) == {1}
        stack.query(f"alter table {name} alter column score type double precision")  # 0.1 reads as 0.10000000149…
        double = fingerprints(stack, table, tmp_path)
        assert changed(renamed, double) == {2}
        stack.query(f"alter table {name} alter column mood type text, add column unread integer default 3")
        assert fingerprints(stack, table, tmp_path) == double, "all that is read is as it was"
        stack.query(f"alter table {name} drop column content")
        assert changed(double, fingerprints(stack, table, tmp_path)) == {1, 2, 3, 4}, "a column that is gone"
    stack.query(f"drop type {mood}")
