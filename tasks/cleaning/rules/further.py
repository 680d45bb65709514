"""The rules for a further table: what its columns ask for, and nothing of its own."""

from __future__ import annotations

from collections.abc import Iterator

from tasks.cleaning.rules.base import Rule
from tasks.cleaning.rules.common import (
    CLEAN_TEXT,
    CREATED_IN_FUTURE,
    MISSING_CREATED_AT,
    UPDATED_BEFORE_CREATED,
    describe_invalid,
)
from tasks.contracts import STAMPS, Table


def rules_of_columns(table: Table) -> tuple[Rule, ...]:
    """Values that fit their columns, cleaned texts, and instants as users and posts have them where they are declared.

    Raises ValueError for a column that leaves its nulls to a rule which no further table has.
    """
    rules = tuple(_rules(table))
    filled = {"created_at", "updated_at"} if "created_at" in table else set()
    for column in table.source_columns:
        if column.on_null == "rule" and column.name not in filled:
            raise ValueError(f"{table.name}.{column.name}: on_null='rule', and no rule of this table fills it")
    for column in table.columns:
        if column.derived and column.name not in STAMPS:
            raise ValueError(f"{table.name}.{column.name} is derived, and nothing derives it")
    return rules


def _rules(table: Table) -> Iterator[Rule]:
    yield describe_invalid(table)
    if any(column.cleaning for column in table.source_columns):
        yield CLEAN_TEXT
    if "created_at" in table:
        if not table["created_at"].nullable:
            yield MISSING_CREATED_AT
        yield CREATED_IN_FUTURE
        if "updated_at" in table:
            yield UPDATED_BEFORE_CREATED
