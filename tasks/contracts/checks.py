"""What no column and no table can be, said where it is declared: each would fail later, in the words of others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tasks.contracts.model import Column, Report, Table

LONGEST_NAME = 63  # bytes; PostgreSQL cuts longer names off
KEY_KINDS = ("uuid", "bigint")  # rows are read, sorted and compared by ranges of these
KEY_BY_A_VIEW = (
    "Name as the source a view that shows another key as one of them, as md5(id)::uuid does, there and where other "
    "tables refer to it."
)
_OF_POSTGRES = frozenset({"cmax", "cmin", "ctid", "tableoid", "xmax", "xmin"})
# Of each row while it is read, cleaned or loaded; and of each cleaned row.
_OF_OURS = frozenset({"_author", "_fingerprint", "_invalid", "_mask", "_n", "_row"})
_STAMPS = frozenset({"fingerprint", "row_hash", "rule_mask"})
_TAKEN = "the name is taken; give it another one, and this one as its source"


def check_column(column: Column, kinds: Collection[str]) -> None:
    """Raise ValueError for a kind or a name that there cannot be, or text rules for what is no text."""
    if column.kind not in kinds:
        raise ValueError(f"column {column.name}: there is no kind {column.kind!r}, there are {', '.join(kinds)}")
    for name in (column.name, column.source_name):
        if not 1 <= len(name.encode()) <= LONGEST_NAME or "\0" in name:
            raise ValueError(f"column {name!r}: a name has 1 to {LONGEST_NAME} bytes in PostgreSQL")
    if column.name in _OF_POSTGRES | _OF_OURS:
        raise ValueError(f"column {column.name}: {_TAKEN}")
    if "%" in column.name:  # functions of ours write statements by `format`
        raise ValueError(f"column {column.name}: no name of ours has a %; give it another one, and this as its source")
    if column.cleaning and column.kind != "text":
        raise ValueError(f"column {column.name} is no text: it has no cleaning")
    if column.personal and column.in_file == "value":
        raise ValueError(f"column {column.name} is personal: in_file must be 'presence' or 'absent'")


def check_key(table: str, key: Column) -> None:
    """Raise ValueError for a first column that may lack a value, or by which rows cannot be cut into ranges."""
    if key.nullable or key.optional or key.derived:
        raise ValueError(f"{table}.{key.name} is the key: it is nullable=False, and neither optional nor derived")
    if key.kind not in KEY_KINDS:
        raise ValueError(f"{table}.{key.name} is the key: its kind is uuid or bigint, not {key.kind}. {KEY_BY_A_VIEW}")


def check_stamps(table: str, columns: Iterable[Column]) -> None:
    """Raise ValueError for a column of the source that is called as one is that each cleaned table gets."""
    for column in columns:
        if column.name in _STAMPS and not column.derived:
            raise ValueError(f"column {column.name} of {table}: {_TAKEN}")


def check_names(of: str, names: Iterable[str]) -> None:
    """Raise ValueError for a name that comes twice."""
    if twice := _twice(names):
        raise ValueError(f"{of} has two columns called {', '.join(twice)}")


def _twice(names: Iterable[str]) -> list[str]:
    return [name for name, count in Counter(names).items() if count > 1]


def check_keys(report: str, keys: Iterable[str], names: Collection[str]) -> None:
    """Raise ValueError for a key of a report that is none of its columns."""
    if missing := [key for key in keys if key not in names]:
        raise ValueError(f"the report {report} has no column {', '.join(missing)}, which its keys name")


def check_tables(tables: Iterable[Table], reports: Iterable[Report]) -> None:
    """Raise ValueError for tables that share a name, and for one of ours that is also read."""
    tables = tuple(tables)
    ours = [*(table.clean for table in tables), *(report.name for report in reports if report.in_postgres)]
    for names, what in (([table.name for table in tables], "called"), (ours, "written to")):
        if twice := _twice(names):
            raise ValueError(f"two tables are {what} {', '.join(twice)}")
    read = {table.source for table in tables if table.source_schema == "public"}
    if both := sorted(read & set(ours)):
        raise ValueError(
            f"public.{', '.join(both)} is a source, which is never written: name the cleaned table otherwise"
        )
