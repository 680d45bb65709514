"""Contracts × database, each transport: what is missing, extra, retyped or renamed on either side, before anything is
read. What it means for a whole run: tests/pipeline/test_drift.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from local_stack import Stack
from tasks.contracts import DAILY_ACTIVITY, POSTS, REJECTS, REPORTS, TABLES, Column, Table
from tasks.errors import ConfigurationError
from tasks.platform.functions import open_database
from tasks.settings import Settings, Transport
from tasks.sink import schema
from tasks.source import open_source
from tests.source.kit import COLUMNS, posts_at, settings_for, source_table

TRANSPORTS: tuple[Transport, ...] = ("rest", "postgres")
Edit = Callable[[Table], Table]


@dataclass(frozen=True)
class Cell:
    """One way to drift apart. statement: on the table, in the database; edit: of its contract. said: of the refusal, or
    None where it is as declared. absent: the columns that the reading does without then."""

    statement: str = ""
    edit: Edit = lambda table: table
    said: str | None = None
    absent: tuple[str, ...] = ()


def without(name: str) -> Edit:
    return lambda table: replace(table, columns=tuple(c for c in table.columns if c.name != name))


def changed(name: str, **how: object) -> Edit:
    def edit(table: Table) -> Table:
        columns = (replace(c, **how) if c.name == name else c for c in table.columns)  # type: ignore[arg-type]
        return replace(table, columns=tuple(columns))

    return edit


def with_one_more(*, optional: bool) -> Edit:
    mood = Column("mood", "text", "How the author felt.", optional=optional)
    return lambda table: replace(table, columns=(*table.columns, mood))


SOURCE = {
    # a column that the contract requires
    "database lacks it": Cell("drop column content", said="has no column content"),
    "database renames it": Cell("rename column content to body", said="has no column content"),
    "database retypes it": Cell(
        "alter column created_at type text", said="created_at is of type text, and the contract says timestamptz"
    ),
    "database retypes it to what can be read": Cell("alter column content type varchar(400)"),
    "contract renames it": Cell(edit=changed("content", source="body"), said="has no column body"),
    "contract retypes it": Cell(
        edit=changed("content", kind="int", cleaning=None), said="content is of type text, and the contract says int"
    ),
    "contract has one more": Cell(edit=with_one_more(optional=False), said="has no column mood"),
    # one that it does not require
    "database lacks an optional one": Cell("drop column title", absent=("title",)),
    "database renames an optional one": Cell("rename column title to head", absent=("title",)),
    "database retypes an optional one": Cell(
        "alter column title type jsonb using null", said="title is of type jsonb, and the contract says text"
    ),
    "contract has one more, optional": Cell(edit=with_one_more(optional=True), absent=("mood",)),
    "contract renames an optional one": Cell(edit=changed("title", source="head"), absent=("title",)),
    "contract retypes an optional one": Cell(
        edit=changed("title", kind="date", cleaning=None), said="title is of type text, and the contract says date"
    ),
    # and one that only one side has
    "database has one more": Cell("add column mood text not null default ''"),
    "contract lacks one": Cell(edit=without("title")),
}


@pytest.fixture(scope="module")
def drifting(stack: Stack) -> Iterator[str]:
    """A table of posts that every cell changes, and that is as declared in between."""
    with source_table(stack) as name:
        yield name


@contextmanager
def altered(stack: Stack, table: str, statement: str) -> Iterator[None]:
    """The table after the statement; made again afterwards, as nothing is in it."""
    if not statement:
        yield
        return
    stack.query(f"alter table public.{table} {statement}")
    try:
        yield
    finally:
        stack.query(
            f"drop table public.{table}; create table public.{table} (id uuid primary key, {COLUMNS}); "
            f"grant select on public.{table} to service_role, etl"
        )


@pytest.mark.parametrize("cell", SOURCE.values(), ids=SOURCE)
def test_a_source_and_its_contract(stack: Stack, drifting: str, cell: Cell, tmp_path: Path) -> None:
    table = cell.edit(posts_at(drifting))
    with altered(stack, drifting, cell.statement):
        for transport in TRANSPORTS:
            with open_source(settings_for(stack, transport, tmp_path)) as source:
                if cell.said:
                    with pytest.raises(ConfigurationError, match=cell.said) as caught:
                        source.preflight([table])
                    assert "Nothing was read" in caught.value.message
                    assert "tasks/contracts/" in caught.value.remedy
                    continue
                found = {column.name for column in source.preflight([table]).tables[table.name].columns}
            assert found == {c.name for c in table.source_columns} - set(cell.absent), transport


def refusal(settings: Settings) -> str:
    """What a run would be refused with; empty when our own tables are as the contracts say."""
    try:
        with open_database(settings) as database:
            schema.check_schema(database)
    except ConfigurationError as error:
        return str(error)
    return ""


# A column of each of our tables, its type, another one, and what one column more is refused with: an aggregate keeps
# columns of its history, and in the rejects' table nothing is in the way.
OURS = {
    "clean_posts": ("char_count", "bigint", "integer", "has a column mood that the contracts lack"),
    "daily_activity": ("words", "bigint", "integer", ""),
    "etl_reject_rows": ("rule_mask", "bigint", "integer", ""),
}


def require(found: set[str], said: str, *, commands: tuple[str, ...] = ("`make migration`", "`make migrate`")) -> None:
    """The refusals of both transports are one, which says this; none where nothing is to be said."""
    (message,) = found
    assert said in message
    assert bool(message) == bool(said)
    assert all(word in message for word in ("Nothing was read", *commands) if said)


@pytest.mark.parametrize("relation", OURS)
@pytest.mark.parametrize("how", ["extra", "retyped", "renamed"])
def test_our_tables_that_the_database_changed(stack: Stack, relation: str, how: str, tmp_path: Path) -> None:
    column, kind, other, extra = OURS[relation]
    statement, reverse, said = {
        "extra": ("add column mood text", "drop column mood", extra),
        "retyped": (
            f"alter column {column} type {other}",
            f"alter column {column} type {kind}",
            f"{relation}.{column} is {other}, the contracts say {kind}",
        ),
        "renamed": (
            f"rename column {column} to renamed",
            f"rename column renamed to {column}",
            f"{relation} has no column {column}",
        ),
    }[how]
    stack.query(f"alter table public.{relation} {statement}")
    try:
        found = {refusal(settings_for(stack, transport, tmp_path)) for transport in TRANSPORTS}
    finally:
        stack.query(f"alter table public.{relation} {reverse}")
    require(found, said)


def test_the_trigger_that_moves_the_base_is_gone(stack: Stack, tmp_path: Path) -> None:
    """Without it a later night would be wrong without a word."""
    stack.query("alter table public.etl_runs disable trigger etl_move_base")
    try:
        found = {refusal(settings_for(stack, transport, tmp_path)) for transport in TRANSPORTS}
    finally:
        stack.query("alter table public.etl_runs enable always trigger etl_move_base")
    require(found, "the trigger etl_move_base of etl_runs is gone or disabled", commands=("Run `make migrate`",))


def edited(relation: str, how: str, column: str) -> dict[str, object]:
    """The declarations after somebody changed the one of a table, by their names."""
    more = Column("mood", "text", "How the author felt.")
    edit: Callable[[tuple[Column, ...]], tuple[Column, ...]] = {
        "has one more": lambda columns: (*columns, more),
        "lacks one": lambda columns: tuple(c for c in columns if c.name != column),
        "retypes one": lambda columns: tuple(replace(c, kind="date") if c.name == column else c for c in columns),
        "renames one": lambda columns: tuple(replace(c, name="mood") if c.name == column else c for c in columns),
    }[how]
    if relation == "clean_posts":
        return {"TABLES": tuple(replace(t, columns=edit(t.columns)) if t is POSTS else t for t in TABLES)}
    if relation == "daily_activity":
        return {"REPORTS": tuple(replace(r, columns=edit(r.columns)) if r is DAILY_ACTIVITY else r for r in REPORTS)}
    return {"REJECTS": edit(REJECTS)}


@pytest.mark.parametrize("relation", OURS)
@pytest.mark.parametrize("how", ["has one more", "lacks one", "retypes one", "renames one"])
def test_our_tables_whose_contract_changed(
    stack: Stack, relation: str, how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody edited tasks/contracts/ and forgot the migration; to the database one more is one that it lacks."""
    column, kind, _, _ = OURS[relation]
    required = {
        "clean_posts": f"{relation} has a column {column}",
        "daily_activity": f"{relation} has a column {column}",
    }
    said = {
        "has one more": f"{relation} has no column mood",
        "lacks one": required.get(relation, ""),
        "retypes one": f"{relation}.{column} is {kind}, the contracts say date",
        "renames one": f"{relation} has no column mood",
    }[how]
    for name, value in edited(relation, how, column).items():
        monkeypatch.setattr(schema, name, value)
    found = {refusal(settings_for(stack, transport, tmp_path)) for transport in TRANSPORTS}
    require(found, said)
