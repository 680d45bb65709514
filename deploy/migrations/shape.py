"""The shape of our tables: as the contracts ask for it, and as the last migration left it.

A migration that `make migration` writes ends with the shape that it leads to, one comment line a table. The next one is
the difference between that and the contracts, so no database is needed to write it.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field

from pydantic import TypeAdapter

from tasks.contracts import POSTGRES_TYPES, REPORTS, TABLES, Column, Report, Table

_RECORD = re.compile(r"^-- shape (\{.*\})$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class ColumnShape:
    """A column in Postgres: its type, whether it refuses nulls, and its comment."""

    type: str
    required: bool
    comment: str


@dataclass(frozen=True, slots=True)
class TableShape:
    """One of our tables in Postgres. `kind` and `name` are what our functions call it by.

    source: schema and name of the table that a cleaned one is made of, and that the role etl may read.
    """

    relation: str
    kind: str
    name: str
    comment: str
    key: tuple[str, ...]
    columns: dict[str, ColumnShape] = field(default_factory=dict)
    source: tuple[str, str] | None = None


Shape = dict[str, TableShape]
_TABLE = TypeAdapter(TableShape)


def wanted_shape() -> Shape:
    """What the contracts ask for, by the tables' names in Postgres."""
    tables = [_of_table(table) for table in TABLES] + [_of_report(report) for report in REPORTS if report.in_postgres]
    return {table.relation: table for table in tables}


def _of_table(table: Table) -> TableShape:
    return TableShape(
        relation=table.clean,
        kind="clean",
        name=table.name,
        comment=table.description,
        key=(table.key.name,),
        columns={c.name: _of_column(c) for c in table.columns},
        source=(table.source_schema, table.source),
    )


def _of_report(report: Report) -> TableShape:
    return TableShape(
        relation=report.name,
        kind="aggregate",
        name=report.name,
        comment=report.description,
        key=report.keys,
        columns={c.name: _of_column(c) for c in report.columns},
    )


def _of_column(column: Column) -> ColumnShape:
    comment = f"{column.description} [{column.unit}]" if column.unit else column.description
    return ColumnShape(POSTGRES_TYPES[column.kind], not column.nullable, comment)


def record(shape: Shape) -> str:
    """The shape as comment lines for the end of a migration."""
    return "\n".join(f"-- shape {json.dumps(asdict(table), ensure_ascii=False)}" for table in shape.values())


def recorded(sql: str) -> Shape | None:
    """The shape that a migration leads to; None where it records none."""
    tables = [_TABLE.validate_json(line) for line in _RECORD.findall(sql)]
    return {table.relation: table for table in tables} or None
