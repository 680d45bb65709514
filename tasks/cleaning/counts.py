"""What cleaning counted, by table: kept in the run's folder from cleaning to the reports and the guard."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import TypeAdapter

from tasks.contracts import Table
from tasks.workspace import Workspace


@dataclass(frozen=True, slots=True)
class RuleCount:
    """How many rows reached a rule, and how many it rejected, changed or flagged."""

    rule: str
    action: str
    checked: int
    affected: int

    @property
    def share(self) -> float | None:
        """The affected rows among the checked ones; None where none was checked."""
        return self.affected / self.checked if self.checked else None


@dataclass(frozen=True, slots=True)
class Scope:
    """Kept posts by `as_of` (µs since the epoch, exclusive): how many are out of scope, and in scope by window.

    windows: days before as_of to posts in scope since then.
    """

    as_of: int
    after_as_of: int
    windows: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class CleanCounts:
    """The counts of a cleaned table: read = kept + rejected. scope: of posts, once they are reduced."""

    table: str
    read: int
    kept: int
    rejected: int
    rules: tuple[RuleCount, ...]
    scope: Scope | None = None

    @property
    def in_scope(self) -> Scope:
        """The scope of posts; ValueError where there is none."""
        if self.scope is None:
            raise ValueError(f"{self.table} was not reduced for an as_of")
        return self.scope


_JSON = TypeAdapter(CleanCounts)


def save_counts(workspace: Workspace, counts: CleanCounts) -> None:
    """Keep the counts of a table in the run's folder, in place of earlier ones."""
    _path(workspace, counts.table).write_bytes(_JSON.dump_json(counts))


def save_scope(workspace: Workspace, table: Table, scope: Scope) -> None:
    """Put the scope of another as_of in the place of the one that is there."""
    save_counts(workspace, replace(load_counts(workspace, table.name), scope=scope))


def load_counts(workspace: Workspace, table: str) -> CleanCounts:
    """What cleaning counted for a table, by its name."""
    return _JSON.validate_json(_path(workspace, table).read_bytes())


def _path(workspace: Workspace, table: str) -> Path:
    return workspace.partials / f"counts_{table}.json"
