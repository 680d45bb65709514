"""What must be verified before the first row is read: an empty or partial view must never pass for an empty table."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from tasks.contracts import POSTGRES_TYPES, Column, Kind, Table
from tasks.contracts.checks import KEY_BY_A_VIEW, KEY_KINDS
from tasks.errors import AccessError, ConfigurationError, PreflightError
from tasks.platform.functions import Database
from tasks.platform.quoting import identifier
from tasks.source.model import Preflight, TableInfo

FUNCTION = "etl_preflight"
_HIDDEN_FROM = " hides rows from the role "  # as etl_row_filters says it
RESTRICTIVE = "select tablename, policyname, roles from pg_policies where permissive = 'RESTRICTIVE'"
_INTEGERS = frozenset({"bigint", "integer", "smallint"})
ACCEPTED: dict[Kind, frozenset[str]] = {
    "uuid": frozenset({"uuid"}),
    "bigint": _INTEGERS,
    "text": frozenset({"text", "character varying", "character", "name", "citext", "enum", "uuid"}),
    "timestamptz": frozenset({"timestamp with time zone", "timestamp without time zone", "date"}),
    "date": frozenset({"date"}),
    "int": _INTEGERS,
    "float": frozenset({"double precision", "real", "numeric", *_INTEGERS}),
    "bool": frozenset({"boolean"}),
}


def request_of(tables: Sequence[Table]) -> list[dict[str, Any]]:
    """The argument of `etl_preflight`."""
    return [
        {
            "schema": t.source_schema,
            "table": t.source,
            "key": t.key.source_name,
            "columns": [c.source_name for c in t.source_columns],
        }
        for t in tables
    ]


def ask(database: Database, tables: Sequence[Table], *, trusted: str, remedy: str) -> Preflight:
    """Ask the database, and turn its answer into what is known or into the first reason not to read.

    trusted: functions that views may call, comma-separated. remedy: what to do when the role may not ask.
    """
    try:
        answer = database.call(FUNCTION, p_tables=request_of(tables))
    except AccessError as error:
        if error.status or error.code:  # the database or the API said so; a login that failed knows its own remedy
            error.remedy = remedy
        raise
    return parse_answer(answer, tables, frozenset(name.strip() for name in trusted.split(",")))


def sample_of(table: Table, parts: int) -> dict[str, Any]:
    """The arguments of `etl_sample_keys`."""
    return {
        "p_schema": table.source_schema,
        "p_table": table.source,
        "p_key": table.key.source_name,
        "p_parts": parts,
    }


def parse_answer(answer: dict[str, Any], tables: Sequence[Table], trusted: frozenset[str] = frozenset()) -> Preflight:
    """Turn the answer of `etl_preflight` into what is known, or into the first reason not to read."""
    role = str(answer["role"])
    infos = {t.name: _parse_table(t, found, role, trusted) for t, found in zip(tables, answer["tables"], strict=True)}
    clock = datetime.fromisoformat(answer["clock"]).astimezone(UTC)
    return Preflight(clock, role, infos)


def _parse_table(table: Table, found: dict[str, Any], role: str, trusted: frozenset[str]) -> TableInfo:
    where = table.at_source
    if not found["exists"]:
        raise ConfigurationError(
            f"There is no table {where}. Nothing was read.",
            remedy="Do SUPABASE_URL and SUPABASE_DB_URL name the right project? If the table has another name or "
            "schema there, say so in tasks/contracts/.",
        )
    types = {name: kind.rpartition(".")[2] for name, kind in (found.get("columns") or {}).items()}
    for column in table.source_columns:
        _require_column(column, types, where, key=column is table.key)
    _require_access(found, table, role)
    _require_trusted(frozenset(found.get("functions", ())) - trusted, where)
    _require_key(found["key"], table)
    return TableInfo(table, types, max(0, int(found["rows"])))


def _require_column(column: Column, types: dict[str, str], where: str, *, key: bool) -> None:
    kind = types.get(column.source_name)
    if kind is None and not column.optional:
        raise ConfigurationError(
            f"{where} has no column {column.source_name}. Nothing was read.",
            remedy="Name the column's source in tasks/contracts/, or mark it optional there.",
        )
    if kind is not None and kind not in ACCEPTED[column.kind]:
        raise ConfigurationError(
            f"{where}.{column.source_name} is of type {kind}, and the contract says {column.kind}. Nothing was read.",
            remedy=_kind_remedy(column, kind, key=key),
        )


def _kind_remedy(column: Column, kind: str, *, key: bool) -> str:
    """Another kind where one takes the type, else a view that shows the column as its own."""
    kinds = [k for k, types in ACCEPTED.items() if kind in types and (k in KEY_KINDS or not key)]
    if key and not kinds:
        return f"A key is uuid or bigint. {KEY_BY_A_VIEW}"
    shown = f"name as the source a view that shows the column as {POSTGRES_TYPES[column.kind]}"
    if not kinds:
        return f"No kind in tasks/contracts/ takes {kind}: {shown}."
    given = f"Give the column the kind {' or '.join(kinds)} in tasks/contracts/"
    return f"{given}, then `make migration` and `make migrate`; or {shown}."


def _require_access(found: dict[str, Any], table: Table, role: str) -> None:
    where = table.at_source
    if not found["schema_usable"] or found["unreadable"]:
        columns = ", ".join(found["unreadable"])
        raise AccessError(
            f"The role {role} may not select from {where}{f' ({columns})' if columns else ''}. Nothing was read.",
            remedy=f"grant usage on schema {identifier(table.source_schema)} to {identifier(role)}; "
            f"grant select on {identifier(table.source_schema, table.source)} to {identifier(role)};",
        )
    if found["row_filters"]:
        raise PreflightError(
            f"{where} would not be seen whole: {'; '.join(found['row_filters'])}. Nothing was read.",
            remedy=_hidden_rows(found["row_filters"], role),
        )


def _hidden_rows(reasons: Sequence[str], role: str) -> str:
    """A view reads as its owner: then neither another key helps, nor a policy for the role that asks."""
    readers = {reason.partition(_HIDDEN_FROM)[2] for reason in reasons}
    if "" in readers:
        return "Name as the source a table, or a view that shows the same rows whoever asks."
    reader = role if role in readers else min(readers)
    policy = (
        f"a policy `for select to {reader} using (true)` on every table that row-level security protects. One "
        f"that is `as restrictive` hides rows all the same: it must not apply to {reader} (`{RESTRICTIVE}` lists them; "
        "`alter policy … to` the roles that it is meant for). To read a part of the rows on purpose: docs/keys.md."
    )
    if reader != role:
        return f"Give {reader}, as which a view reads, {policy}"
    return f"Use the project's secret key (SUPABASE_SERVICE_KEY), or give the role {policy}"


def _require_trusted(functions: frozenset[str], where: str) -> None:
    if functions:
        names = ", ".join(sorted(functions))
        raise PreflightError(
            f"The view {where} calls {names}, which may hide rows by who asks. Nothing was read.",
            remedy=f"If every row is shown whoever asks, set ETL_TRUSTED_FUNCTIONS={names.replace(' ', '')}; or name a "
            "table as the source.",
        )


def _require_key(state: dict[str, Any], table: Table) -> None:
    problems = [
        text for text, holds in (("unique", state["unique"]), ("free of nulls", state["not_null"])) if not holds
    ]
    if problems:
        where = f"{table.at_source}.{table.key.source_name}"
        raise PreflightError(
            f"{where} is not {' and '.join(problems)}, so it cannot be the key. Nothing was read.",
            remedy=_repeated_key(table)
            if state.get("looked")  # at the rows, as nothing declares a key of what they are of
            else "Name a primary key, or a unique column that is not null, as first column in tasks/contracts/.",
        )


def _repeated_key(table: Table) -> str:
    key, source = identifier(table.key.source_name), identifier(table.source_schema, table.source)
    query = f"select {key}, count(*) from {source} group by {key} having {key} is null or count(*) > 1"  # noqa: S608 - names are quoted
    return f"See which: {query}. Show one row for each key, or name another column first in tasks/contracts/."
