"""The figures of a run, as the ledger and the manifest keep them and the next run reads them back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer

Figure = int | float | None
Shares = Mapping[tuple[str, str], float | None]


class _Stored(BaseModel):
    """Stored as JSON: frozen, and what a later version added is kept as it is."""

    model_config = ConfigDict(frozen=True, extra="allow")


class TableCounts(_Stored):
    """Rows of a table: read = kept + rejected."""

    read: int
    kept: int
    rejected: int = 0


class RuleCounts(_Stored):
    """Rows that reached a rule, those that it affected, and their share; None where none reached it."""

    table: str
    rule: str
    action: str = ""
    checked: int
    affected: int
    share: float | None


class RunCounts(_Stored):
    """The figures of a run; a run that was held, or never got so far, has some of them.

    headline: the row of user_statistics but as_of, and the kept rows out of scope. columns: of each table that was
    read whole, the non-null share of each column that the source has. accepted: metrics that a person accepted.
    held: metrics that held the run, with their values. written: by table, what became of its rows.
    mode, base_run, not_read, full_because, drifted: how it read, see docs/incremental.md.
    """

    tables: Mapping[str, TableCounts] = {}
    rules: tuple[RuleCounts, ...] = ()
    headline: Mapping[str, Figure] = {}
    columns: Mapping[str, Mapping[str, float]] = {}
    accepted: tuple[str, ...] = ()
    held: Mapping[str, float] = {}
    written: Mapping[str, Mapping[str, int]] = {}
    mode: str | None = None
    base_run: str | None = None
    not_read: Mapping[str, int] = {}
    full_because: str | None = None
    drifted: int | None = None

    @model_serializer(mode="wrap")
    def _as_given(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """What was set: a figure that a run does not have is absent, not null."""
        fields: dict[str, Any] = handler(self)
        return {name: value for name, value in fields.items() if name in self.model_fields_set}

    def to_json(self) -> dict[str, Any]:
        """For the wire: values that JSON has."""
        return self.model_dump(mode="json")

    @property
    def shares(self) -> Shares:
        """By (table, rule), the share of rows that the rule affected."""
        return {(of.table, of.rule): of.share for of in self.rules}


@dataclass(frozen=True, slots=True)
class PastRun:
    """A run as later ones are compared with it. shares: see `RunCounts`; event: what happened to it, if anything."""

    as_of: datetime
    shares: Shares
    headline: Mapping[str, Figure] = field(default_factory=dict)
    event: Literal["", "held", "accepted"] = ""
    run_id: str = ""
