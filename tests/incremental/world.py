"""A product whose history is made up: its keys, instants and texts, and what of its schema has changed."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import psycopg

from tests.pipeline.kit import Project

USERS = 14
POSTS = 60
MONTHS = ("2025-10", "2025-11", "2025-12", "2026-01")
_NOW = "now()"


def uid(number: int) -> str:
    return f"00000000-0000-4000-8000-{number:012d}"


@dataclass
class World:
    """session: of the product's own. late: connections with a transaction that is not committed yet.

    statuses: what users.status may be.
    """

    project: Project
    rng: random.Random
    session: psycopg.Connection
    late: list[psycopg.Connection] = field(default_factory=list)
    dumped: bool = False
    triggered: bool = False
    statuses: list[str] = field(default_factory=lambda: ["active", "INACTIVE", "odd"])
    enum: bool = False
    gone: set[str] = field(default_factory=set)  # columns that the source lacks, as `users.bio`

    def sql(self, statement: str) -> None:
        """One statement or several: without parameters they go as one simple query, which is one transaction."""
        self.session.execute(statement.encode())

    def user(self) -> str:
        return uid(self.rng.randrange(USERS))

    def post(self) -> str:
        return uid(1_000 + self.rng.randrange(POSTS))

    def instant(self) -> str:
        """A created_at as SQL: mostly ordinary, at bounds of months and days, or one that a rule rejects."""
        day, rng = self.rng.randrange(1, 29), self.rng
        month = rng.choice(MONTHS)
        odd = rng.random()
        if odd < 0.04:
            return "null"
        if odd < 0.07:
            return f"{_NOW} + interval '24 hours 4 seconds'"  # in the future now, not any more in a while
        if odd < 0.09:
            return "'infinity'"
        if odd < 0.15:
            return f"'{month}-01 00:00:00+00'"
        if odd < 0.2:
            return f"timestamptz '{month}-01 00:00:00+00' - interval '1 microsecond'"
        if odd < 0.25:
            return _NOW
        return f"'{month}-{day:02d} {rng.randrange(24):02d}:00:00+00'"

    def text(self, options: tuple[str, ...]) -> str:
        if self.rng.random() < 0.1:
            return "null"
        return "'" + self.rng.choice(options).replace("'", "''") + "'"

    def insert(self, table: str, values: dict[str, str], on_conflict: str) -> None:
        """A row of the columns that the table has; values: as SQL. on_conflict: columns that are updated then."""
        there = {name: value for name, value in values.items() if f"{table}.{name}" not in self.gone}
        taken = [f"{name} = excluded.{name}" for name in on_conflict.split() if name in there]
        self.sql(
            f"insert into {table} ({', '.join(there)}) values ({', '.join(there.values())}) "
            f"on conflict (id) do {'update set ' + ', '.join(taken) if taken else 'nothing'}"
        )
