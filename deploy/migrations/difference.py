"""From one shape of our tables to the next, as SQL that can run twice.

Cleaned tables are derived: a column that goes is dropped, and one that comes is filled by the next run, as every row
counts as changed then. Aggregates are a history: their columns and rows stay.
"""

from __future__ import annotations

from collections.abc import Iterator

from deploy.migrations.shape import ColumnShape, Shape, TableShape
from deploy.migrations.statements import (
    add_column,
    create_table,
    drop_column,
    drop_table,
    drop_table_of_another_key,
    forget_rejects,
    grant_source,
    make_indexes,
    make_required,
    open_to_readers,
    registry,
    replace_key,
    reset_hashes,
    retype,
    revoke_source,
    set_comment,
    table_comment,
    tolerate_nulls,
)
from tasks.contracts import STAMPS


def statements(before: Shape, after: Shape) -> list[str]:
    """The SQL, statement by statement; empty when the shapes are the same."""
    changes = [sql for table in after.values() for sql in _table(before.get(table.relation), table)]
    gone = [table for table in before.values() if table.relation not in after and table.kind == "clean"]
    changes += [sql for table in after.values() for sql in _source(before.get(table.relation), table)]
    changes += _former_sources(before, after)
    if _registered(before) != _registered(after):
        changes.append(registry(after))
    changes += [drop_table(table) for table in gone]  # after the registry, which names them no more
    names = {table.name for table in after.values() if table.kind == "clean"}
    changes += [forget_rejects(table) for table in gone if table.name not in names]
    # Last: the registry names the tables then, and those that go hold none of the indexes' names.
    return [*changes, make_indexes(), open_to_readers()] if changes else []


def _registered(shape: Shape) -> list[tuple[str, str, str]]:
    return sorted((table.kind, table.name, table.relation) for table in shape.values())


def _source(before: TableShape | None, after: TableShape) -> Iterator[str]:
    if after.source and (before is None or before.source != after.source):
        yield grant_source(*after.source)


def _former_sources(before: Shape, after: Shape) -> Iterator[str]:
    sources = {table.source: True for table in after.values() if table.source}  # in their order
    for source in {table.source: True for table in before.values() if table.source and table.source not in sources}:
        yield revoke_source(*source, sources)


def _table(before: TableShape | None, after: TableShape) -> Iterator[str]:
    if before is not None and after.kind == "clean" and _key(before) != _key(after):
        yield drop_table_of_another_key(after)
        before = None
    if before is None:
        yield create_table(after)
        return
    if before.comment != after.comment:
        yield table_comment(after)
    yield from _columns(before, after)
    if before.key != after.key:
        yield replace_key(after)


def _key(table: TableShape) -> list[tuple[str, str]]:
    return [(name, table.columns[name].type) for name in table.key]


def _columns(before: TableShape, after: TableShape) -> Iterator[str]:
    derived = after.kind == "clean"
    for name in (name for name in before.columns if name not in after.columns):
        yield drop_column(after, name) if derived else tolerate_nulls(after, name)
    for name, column in after.columns.items():
        yield from _column(after, name, before.columns.get(name), column)
    filled = ((name, column) for name, column in after.columns.items() if name not in STAMPS)
    if derived and any(_refilled(before.columns.get(name), column) for name, column in filled):
        yield reset_hashes(after)


def _refilled(before: ColumnShape | None, after: ColumnShape) -> bool:
    """Whether no row that is there can hold the column's value."""
    return before is None or before.type != after.type


def _column(table: TableShape, name: str, before: ColumnShape | None, after: ColumnShape) -> Iterator[str]:
    if before is None:
        yield add_column(table, name)
    elif before.type != after.type:
        yield retype(table, name)
    if after.required and (before is None or not before.required or before.type != after.type):
        yield make_required(table, name)
    if before is not None and before.required and not after.required:
        yield tolerate_nulls(table, name)
    if before is None or before.comment != after.comment or before.type != after.type:
        yield set_comment(table, name)
