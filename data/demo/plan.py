"""How many rows are of which kind, and the figures that follow for the cleaning rules of `definitions.md`.

Nothing here looks at a row or at the cleaning code: the figures come from the plan of the dirt alone, so that a test
that compares them with a run's `data_quality` compares two things that were made apart.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from data.demo.dirt import POST_KINDS, USER_KINDS, Kind
from data.demo.times import Placed

MIN_ROWS = 200  # fewer have no room for every kind
REJECTED = frozenset({"invalid_value", "missing_created_at", "created_in_future", "orphan"})
RULES = {
    "users": (
        "invalid_value", "clean_text", "lowercase_email", "invalid_email", "normalise_status", "missing_created_at",
        "created_in_future", "updated_before_created", "duplicate_email",
    ),
    "posts": (
        "invalid_value", "clean_text", "missing_created_at", "created_in_future", "orphan", "updated_before_created",
        "before_signup",
    ),
}  # fmt: skip
KINDS = {"users": USER_KINDS, "posts": POST_KINDS}


@dataclass(frozen=True, slots=True)
class RuleFigures:
    """A row of the `data_quality` report."""

    rows_checked: int
    rows_affected: int


@dataclass(frozen=True, slots=True)
class TableFigures:
    """What a run over an untouched demo must find in one table.

    late: kept rows that are out of the scope of reports as of the demo's `until`.
    kinds: rows of each kind of dirt, by its name.
    """

    rows: int
    kept: int
    rejected: int
    late: int
    rules: dict[str, RuleFigures]
    kinds: dict[str, int]


@dataclass(frozen=True, slots=True)
class DemoCounts:
    """Both tables' figures."""

    users: TableFigures
    posts: TableFigures

    def __getitem__(self, table: str) -> TableFigures:
        return {"users": self.users, "posts": self.posts}[table]

    def quality(self) -> dict[tuple[str, str], tuple[int, int]]:
        """(table, rule) → (rows_checked, rows_affected), in the order of the report."""
        return {
            (table, rule): (figures.rows_checked, figures.rows_affected)
            for table in RULES
            for rule, figures in self[table].rules.items()
        }


def expected_counts(users: int, posts: int) -> DemoCounts:
    """The figures for so many rows, whatever the seed. They hold for runs from `until` to five years later."""
    if 0 < users < MIN_ROWS or 0 < posts < MIN_ROWS or min(users, posts) < 0:
        raise ValueError(f"The demo needs at least {MIN_ROWS} rows in a table, or none: {users=}, {posts=}.")
    if posts and not users:
        raise ValueError("Posts need users: every one of the demo's posts belongs to somebody but a few.")
    return DemoCounts(users=_figures("users", users), posts=_figures("posts", posts))


def rows_of(kind: Kind, rows: int) -> int:
    """How many of so many rows are of a kind: at least one."""
    return max(1, round(kind.per_10k * rows / 10_000)) if rows else 0


def kinds_of_rows(table: str, rows: int, rng: np.random.Generator) -> Placed:
    """For each row the index of its kind in KINDS[table], −1 for a plain one; at random positions (int8)."""
    counts = [rows_of(kind, rows) for kind in KINDS[table]]
    placed = np.full(rows, -1, np.int8)
    placed[: sum(counts)] = np.repeat(np.arange(len(counts), dtype=np.int8), counts)
    shuffled: Placed = rng.permutation(placed)
    return shuffled


def _figures(table: str, rows: int) -> TableFigures:
    counts = [(kind, rows_of(kind, rows)) for kind in KINDS[table]]
    rules, left = {}, rows
    for rule in RULES[table]:
        affected = sum(count for kind, count in counts if rule in kind.trips)
        rules[rule] = RuleFigures(left, affected)
        left -= affected if rule in REJECTED else 0
    late = sum(count for kind, count in counts if kind.late)
    return TableFigures(rows, left, rows - left, late, rules, {kind.name: count for kind, count in counts})


def is_rejected(kind: Kind) -> bool:
    return not REJECTED.isdisjoint(kind.trips)
