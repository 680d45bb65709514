"""What a source is, and what it reports: the same on both transports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from tasks.contracts import Column, Table
from tasks.platform.progress import Progress, no_progress
from tasks.settings import Transport
from tasks.source.changes import ChangeFinder
from tasks.workspace import Spool, Workspace


@dataclass(frozen=True, slots=True)
class TableInfo:
    """What the preflight found of one table: its columns' types by source name, and the planner's estimate of rows.

    fingerprint: SQL over the source as `s`, of exactly what the read selects; empty where rows are read without it.
    """

    table: Table
    types: dict[str, str]
    rows: int
    fingerprint: str = ""

    @property
    def columns(self) -> tuple[Column, ...]:
        """The contract's source columns that the source has, in the contract's order."""
        return tuple(c for c in self.table.source_columns if c.source_name in self.types)

    def type_of(self, column: Column) -> str:
        return self.types[column.source_name]


@dataclass(frozen=True, slots=True)
class Preflight:
    """The database's clock (UTC) and the role that reads, and each table by the contract's name."""

    clock: datetime
    role: str
    tables: dict[str, TableInfo]


@dataclass(frozen=True, slots=True)
class TableRead:
    """One table, read whole. bytes: of the Arrow batches. seconds: of this run's reading. how: in words, for people.

    filled: non-null values of each source column that the table has.
    """

    table: str
    rows: int
    bytes: int
    seconds: float
    ranges: int
    resumed_ranges: int
    how: str
    filled: Mapping[str, int] = field(default_factory=dict)

    @property
    def shares(self) -> dict[str, float]:
        """Non-null share of each column that the table has, between 0 and 1; 0 for a table without rows."""
        return {name: round(count / self.rows, 6) if self.rows else 0.0 for name, count in self.filled.items()}


@dataclass(frozen=True, slots=True)
class Reconciled:
    """What became of posts whose author was not among the users read; the rest of them are orphans indeed."""

    asked: int = 0
    posts_gone: int = 0
    posts_changed: int = 0
    users_added: int = 0


class Source(Protocol):
    """Where `users` and `posts` come from. Posts are read first, users after."""

    transport: Transport

    @property
    def snapshot_at(self) -> datetime:
        """The database's clock at the preflight (UTC): every row that was committed before it is read."""

    def preflight(self, tables: Sequence[Table]) -> Preflight:
        """Verify that the tables can be read whole. PreflightError, AccessError or ConfigurationError when not."""

    def read(self, table: Table, spool: Spool, *, progress: Progress = no_progress) -> TableRead:
        """Read a whole table into its spool, in key order. ReadError when that cannot be verified as complete."""

    def changes(self) -> ChangeFinder:
        """What finds the rows that differ from those known, and fetches them."""

    def reconcile(self, workspace: Workspace) -> Reconciled:
        """Ask again for would-be orphans and their authors, and fix the two raw spools."""

    def end_reading(self) -> None:
        """End what the reading holds in the database; `reconcile` does so too, as the first thing."""
