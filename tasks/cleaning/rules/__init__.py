"""The cleaning rules. To add one: write its function, add its line to the table's list, test it.

The ledger, the report `data_quality`, the dictionary and the run page take names, actions and descriptions from here.
"""

from __future__ import annotations

from tasks.cleaning.rules.base import Change, Facts, Flag, Frame, Reject, Rule
from tasks.cleaning.rules.further import rules_of_columns
from tasks.cleaning.rules.posts import POSTS_RULES
from tasks.cleaning.rules.users import USERS_RULES
from tasks.contracts import FURTHER_TABLES, POSTS, TABLES, USERS, Table
from tasks.errors import ConfigurationError

# What the rules and the reports go by: a contract may call its source columns as it likes. A further table's key, too.
_NEEDED = {
    USERS.name: ("id", "created_at", "duplicate_of", "row_hash"),
    POSTS.name: ("id", "user_id", "content", "word_count", "char_count", "is_before_signup", "created_at", "row_hash"),
}


def check_table(table: Table) -> None:
    """Raise ConfigurationError unless a table has the columns that its rules and its files go by."""
    missing = [name for name in _NEEDED.get(table.name, ("row_hash",)) if name not in table]
    if missing:
        raise ConfigurationError(
            f"The contract of {table.name} lacks {', '.join(missing)}, which the pipeline goes by.",
            remedy=f"Declare it in tasks/contracts/{table.name}.py; `source` names it where the source's name differs.",
        )
    _check_instants(table)
    _check_month(table)


def _check_instants(table: Table) -> None:
    """What is called so is taken for an instant, by the rules and by incremental nights."""
    for column in table.source_columns:
        if column.name in ("created_at", "updated_at") and column.kind != "timestamptz":
            raise ConfigurationError(
                f"The column {column.name} of {table.name} is of the kind {column.kind}, and rules need an instant.",
                remedy=f"In tasks/contracts/{table.name}.py give it the kind timestamptz, which takes a date as its "
                f"midnight in UTC, or another name with source='{column.source_name}'.",
            )


def _check_month(table: Table) -> None:
    instants = [c.name for c in table.file_columns if c.kind == "timestamptz" and not c.nullable]
    if table.by_month is not None and table.by_month not in instants:
        raise ConfigurationError(
            f"The files of {table.name} cannot be split by the month of {table.by_month}.",
            remedy=f"In tasks/contracts/{table.name}.py `by_month` names a column of the kind timestamptz that is "
            f"nullable=False and in the files{': ' if instants else ''}{', '.join(instants)}.",
        )


def _further(table: Table) -> tuple[Rule, ...]:
    try:
        return rules_of_columns(table)
    except ValueError as error:
        raise ConfigurationError(
            f"The table {table.name} lacks a rule: {error}.",
            remedy=f"Change the column in tasks/contracts/{table.name}.py, or add its rule in tasks/cleaning/rules/.",
        ) from None


for _table in TABLES:
    check_table(_table)

RULES: dict[str, tuple[Rule, ...]] = {
    USERS.name: USERS_RULES,
    POSTS.name: POSTS_RULES,
    **{table.name: _further(table) for table in FURTHER_TABLES},
}

__all__ = ["POSTS_RULES", "RULES", "USERS_RULES", "Change", "Facts", "Flag", "Frame", "Reject", "Rule"]
