"""Whether our tables in Postgres are as the contracts declare them, in both directions, and our functions of today.

A column that the table lacks would be lost without a word, one that the contracts lack would stop the load at its end,
what a newer migration has put right would stay wrong, and a function or right that is gone would end a run where it is
needed, at the commit perhaps: so a run looks first, before it reads anything.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tasks.contracts import POSTGRES_TYPES, REJECTS, REPORTS, TABLES, Column
from tasks.errors import ConfigurationError
from tasks.platform.functions import Database
from tasks.platform.quoting import identifier

FUNCTION = "etl_own_tables"
_SEEN = "etl_preflight"  # of sources, and as well of any other table: who sees all of it
RELEASE = "20261126026000"  # of the last migration of ours, which says so itself, whatever a guest's copy is called
MIGRATE = (
    "Run `make migrate`, which applies or makes again what is missing, and says what to do about the rest (on the "
    "local stack `make run` does)."
)
REMEDY = (
    "Where tasks/contracts/ changed, `make migration` writes that as a new file. Then `make migrate` applies what is "
    "not applied, and names the SQL for what somebody changed by hand (on the local stack `make run` does)."
)
_BY_HAND = (
    " A column that somebody added by hand is in no migration: keep it in a table or view of your own, and take it "
    "away here: {fixes}"
)
_SHOWN = 5  # functions named; of more, their number
_BOOKS = ("etl_base", "etl_batches", "etl_reject_rows", "etl_runs", "etl_waiting")
# As `format_type` spells them.
_CATALOG_TYPES = {"timestamptz": "timestamp with time zone"}


@dataclass(frozen=True, slots=True)
class SchemaDifference:
    """One thing that differs. `fix` is SQL for where a migration would not do it: someone changed the table by hand.

    extra: it is a column that no contract names. missing: `make migrate` puts it right, whatever the contracts say.
    """

    what: str
    fix: str
    extra: bool = False
    missing: bool = False


def check_schema(database: Database) -> None:
    """Raise ConfigurationError when our tables are not as the contracts declare them, or migrations are missing.

    Reads the catalog only.
    """
    if found := list(differences(database.call(FUNCTION))) or list(_hidden(database)):
        listed = "; ".join(difference.what for difference in found)
        raise ConfigurationError(
            f"The pipeline's tables and functions are not as this version declares them: {listed}. Nothing was read.",
            remedy=_remedy(found),
        )


def _hidden(database: Database) -> Iterator[SchemaDifference]:
    """Row-level security that hides rows of ours from the role that asks: they would be taken for gone."""
    names = [*(t.clean for t in TABLES), *(r.name for r in REPORTS if r.in_postgres), *_BOOKS]
    answer = database.call(_SEEN, p_tables=[{"schema": "public", "table": name, "columns": []} for name in names])
    if hidden := [table["table"] for table in answer["tables"] if table.get("row_filters")]:
        what = f"row-level security hides rows of {_some(hidden)} from {answer['role']}"
        why = "the policy etl_all is gone, or one that is restrictive applies to that role"
        yield SchemaDifference(f"{what}: {why}", "run `make migrate`", missing=True)


def _remedy(found: list[SchemaDifference]) -> str:
    if any(difference.missing for difference in found):
        return MIGRATE
    fixes = " ".join(difference.fix for difference in found if difference.extra)
    return REMEDY + (_BY_HAND.format(fixes=fixes) if fixes else "")


def differences(found: Mapping[str, Any]) -> Iterator[SchemaDifference]:
    """What differs, from the answer of `etl_own_tables`."""
    wanted = {
        **{t.clean: ("clean", t.name, t.columns, [t.key.name]) for t in TABLES},
        **{r.name: ("aggregate", r.name, r.columns, list(r.keys)) for r in REPORTS if r.in_postgres},
        "etl_reject_rows": ("rejects", "etl_reject_rows", REJECTS, None),
    }
    there: Mapping[str, Any] = found["tables"]
    for what in _missing(found):
        yield SchemaDifference(what, "run `make migrate`", missing=True)
    for relation, (kind, name, columns, key) in wanted.items():
        table = there.get(relation)
        if table is None or (table["kind"], table["name"]) != (kind, name):
            yield SchemaDifference(f"there is no table {relation} for {name}", "see supabase/migrations")
            continue
        if kind == "clean" and table.get("partitioned"):
            what = f"{relation} is a partitioned table, into which no load writes"
            yield SchemaDifference(what, _plain_again(relation, key))
        yield from _columns(relation, kind, columns, table["columns"])
        if key is not None and table["key"] != key:
            yield SchemaDifference(f"the key of {relation} is {_listed(table['key'])}, not {_listed(key)}", "see above")
    for relation in there.keys() - wanted.keys():
        yield SchemaDifference(f"no contract names the table {relation}", f"drop table {_full(relation)};")


def _missing(found: Mapping[str, Any]) -> Iterator[str]:
    """What was never applied, or what somebody dropped or revoked."""
    if found.get("release", "") < RELEASE:
        yield "the database lacks migrations that this version comes with"
        return
    if not found["base_moves"]:
        yield "the trigger etl_move_base of etl_runs is gone or disabled"
    lacking = found["lacking"]
    if gone := lacking["functions"]:
        yield f"there is no function {_some(gone)}"
    if refused := lacking["execute"]:
        yield f"{lacking['role']} may not call {_some(refused)}"
    for table, privileges in lacking["tables"].items():
        yield f"{lacking['role']} lacks {', '.join(privileges)} on {table}"


def _columns(
    relation: str, kind: str, wanted: tuple[Column, ...], found: Mapping[str, Any]
) -> Iterator[SchemaDifference]:
    for column in wanted:
        yield from _column(relation, column, found.get(column.name), nulls=kind != "rejects")
    declared = {column.name for column in wanted}
    for name in (n for n in found if n not in declared):
        if _in_the_way(kind, found[name]):
            what = f"{relation} has a column {name} that the contracts lack"
            yield SchemaDifference(what, f"alter table {_full(relation)} drop column {identifier(name)};", extra=True)


def _column(
    relation: str, column: Column, there: Mapping[str, Any] | None, *, nulls: bool
) -> Iterator[SchemaDifference]:
    declared = POSTGRES_TYPES[column.kind]
    alter, name = f"alter table {_full(relation)}", identifier(column.name)
    if there is None:
        yield SchemaDifference(f"{relation} has no column {column.name}", f"{alter} add column {name} {declared};")
    elif there["type"] != _CATALOG_TYPES.get(declared, declared):
        what = f"{relation}.{column.name} is {there['type']}, the contracts say {declared}"
        yield SchemaDifference(what, f"{alter} alter column {name} type {declared};")
    elif by := there.get("filled_by"):
        fix = f"alter {name} drop identity" if by == "identity" else f"drop column {name}, add column {name} {declared}"
        what = f"{relation}.{column.name} is filled by the database ({by}), which takes no value for it"
        yield SchemaDifference(what, f"{alter} {fix};")
    elif nulls and there["required"] and column.nullable:
        what = f"{relation}.{column.name} refuses nulls, the contracts allow them"
        yield SchemaDifference(what, f"{alter} alter column {name} drop not null;")


def _plain_again(relation: str, key: list[str] | None) -> str:
    """SQL that puts a plain table with the rows in its place, closed until `make migrate` gives rights back."""
    full, plain = _full(relation), _full(f"{relation}_plain")
    columns = ", ".join(identifier(name) for name in key or [])
    return (
        f"begin; create table {plain} (like {full} including comments, primary key ({columns})); "
        f"alter table {plain} enable row level security; insert into {plain} table {full}; drop table {full}; "
        f"alter table {plain} rename to {identifier(relation)}; commit;"
    )


def _in_the_way(kind: str, column: Mapping[str, Any]) -> bool:
    """Whether a column that is not declared would stop a load. An aggregate keeps the columns of its history.

    What is written names every column, with null for those it does not know: no default fills them.
    """
    return kind == "clean" or (kind == "aggregate" and bool(column["required"] or column.get("filled_by")))


def _full(relation: str) -> str:
    return identifier("public", relation)


def _listed(names: list[str]) -> str:
    return ", ".join(names) or "nothing"


def _some(names: list[str]) -> str:
    """The first few of them, and how many more there are."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
