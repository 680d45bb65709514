"""What a column, a table and a report are, as declarations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

from tasks.contracts.checks import check_column, check_key, check_keys, check_names, check_stamps

Kind = Literal["uuid", "bigint", "text", "timestamptz", "date", "int", "float", "bool"]
Cleaning = Literal["line", "block"]
InFile = Literal["value", "presence", "absent"]
OnNull = Literal["reject", "rule"]

ARROW_TYPES: dict[Kind, pa.DataType] = {
    "uuid": pa.string(),
    "bigint": pa.int64(),
    "text": pa.string(),
    "timestamptz": pa.timestamp("us", tz="UTC"),
    "date": pa.date32(),
    "int": pa.int64(),
    "float": pa.float64(),
    "bool": pa.bool_(),
}
POSTGRES_TYPES: dict[Kind, str] = {
    "uuid": "uuid",
    "bigint": "bigint",
    "text": "text",
    "timestamptz": "timestamptz",
    "date": "date",
    "int": "bigint",
    "float": "double precision",
    "bool": "boolean",
}


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table or a report.

    name: what it is called in everything that the pipeline writes.
    source: its name at the source, where that differs.
    nullable: whether a null is allowed in what the pipeline writes.
    on_null: where it is not, what becomes of a row whose source has none: rejected as `invalid_value`, or left to a
        rule of the table that fills it or rejects the row.
    optional: whether the source may lack the column; it is null throughout then.
    personal: identifies a person; never leaves in a file, a log or a message.
    cleaning: how its text is cleaned: as one line, or as a block that may have several.
    derived: made by the pipeline, not read from the source.
    in_file: what a cleaned Parquet file has of it: the value, `has_<name>`, or nothing.
    """

    name: str
    kind: Kind
    description: str
    unit: str | None = None
    source: str | None = None
    nullable: bool = True
    on_null: OnNull = "reject"
    optional: bool = False
    personal: bool = False
    cleaning: Cleaning | None = None
    derived: bool = False
    in_file: InFile = "value"

    def __post_init__(self) -> None:
        check_column(self, ARROW_TYPES)

    @property
    def must_come_filled(self) -> bool:
        """Of a column of the source: whether a null there rejects the row."""
        return not self.nullable and self.on_null == "reject"

    @property
    def source_name(self) -> str:
        return self.source or self.name

    @property
    def field(self) -> pa.Field[pa.DataType]:
        return pa.field(self.name, ARROW_TYPES[self.kind], nullable=self.nullable)


FINGERPRINT = Column(
    "fingerprint",
    "bigint",
    "64 bits over the source row as it was read, made by the database; null before the first run that had them.",
    derived=True,
    in_file="absent",
)
RULE_MASK = Column(
    "rule_mask",
    "bigint",
    "The cleaning rules that changed or flagged the row: bit n is the n-th rule of the table, counted from 0.",
    derived=True,
    in_file="absent",
)


@dataclass(frozen=True, slots=True)
class Table:
    """A source table, and the cleaned table that is made of it. The first column is the key.

    by_month: the instant by whose month (UTC) the cleaned files are split into folders; None does not split.
    A table with a `row_hash` gets the columns FINGERPRINT and RULE_MASK behind its own.
    """

    name: str
    source: str
    clean: str
    description: str
    columns: tuple[Column, ...]
    source_schema: str = "public"
    by_month: str | None = None
    version: int = 1

    def __post_init__(self) -> None:
        if "row_hash" in self:
            stamps = tuple(column for column in (FINGERPRINT, RULE_MASK) if column.name not in self)
            object.__setattr__(self, "columns", (*self.columns, *stamps))
        check_stamps(self.name, self.columns)
        check_names(f"the table {self.name}", (column.name for column in self.columns))
        check_names(f"the file of the table {self.name}", (column.name for column in self.file_columns))
        check_key(self.name, self.key)

    @property
    def key(self) -> Column:
        return self.columns[0]

    @property
    def at_source(self) -> str:
        """Schema and name of the source, as messages have them."""
        return f"{self.source_schema}.{self.source}"

    @property
    def source_columns(self) -> tuple[Column, ...]:
        return tuple(c for c in self.columns if not c.derived)

    @property
    def raw_schema(self) -> pa.Schema:
        """What a transport delivers: the source's columns, all nullable; why a row cannot be held; its fingerprint."""
        fields = [pa.field(c.name, ARROW_TYPES[c.kind]) for c in self.source_columns]
        return pa.schema([*fields, pa.field("_invalid", pa.string()), pa.field("_fingerprint", pa.int64())])

    @property
    def clean_schema(self) -> pa.Schema:
        """What the cleaned table in Postgres holds, column by column."""
        return pa.schema([c.field for c in self.columns])

    @property
    def file_columns(self) -> tuple[Column, ...]:
        """The columns of the cleaned Parquet files: no personal text, `has_…` in its place."""
        return tuple(_in_file(c) for c in self.columns if c.in_file != "absent")

    def __getitem__(self, name: str) -> Column:
        return next(c for c in self.columns if c.name == name)

    def __contains__(self, name: str) -> bool:
        return any(c.name == name for c in self.columns)


def _in_file(column: Column) -> Column:
    if column.in_file == "value":
        return column
    return Column(f"has_{column.name}", "bool", f"Whether `{column.name}` has a value after cleaning.", nullable=False)


@dataclass(frozen=True, slots=True)
class Report:
    """A Parquet file of aggregates. `keys` identify a row and, where `sorted_by_keys`, give the order of the rows."""

    name: str
    description: str
    keys: tuple[str, ...]
    columns: tuple[Column, ...]
    names_users: bool = False
    in_postgres: bool = False
    version: int = 1
    sorted_by_keys: bool = True

    def __post_init__(self) -> None:
        check_names(f"the report {self.name}", (column.name for column in self.columns))
        check_keys(self.name, self.keys, [column.name for column in self.columns])

    @property
    def schema(self) -> pa.Schema:
        return pa.schema([c.field for c in self.columns])
