"""Adjoining key ranges over a whole key space, and the plan that lets a resumed run continue with the same cuts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil
from pathlib import Path
from typing import Any
from uuid import UUID

from tasks.contracts import Kind
from tasks.errors import ReadError
from tasks.platform.whole_file import whole_file
from tasks.source.model import TableInfo
from tasks.workspace import Spool

Key = str | int
MOST_RANGES = 256


@dataclass(frozen=True, slots=True)
class KeyRange:
    """Keys after `after` (excluded) up to `until` (included); None is the end of the key space."""

    index: int
    after: Key | None
    until: Key | None


@dataclass(frozen=True, slots=True)
class Plan:
    """How a table is cut. `source` names the tables, columns and server it is good for."""

    cuts: tuple[Key, ...]
    source: str

    @property
    def ranges(self) -> tuple[KeyRange, ...]:
        edges = (None, *self.cuts, None)
        return tuple(KeyRange(i, after, until) for i, (after, until) in enumerate(pairwise(edges)))

    def save(self, spool: Spool) -> None:
        """Write it beside the spool's files, atomically."""
        spool.folder.mkdir(parents=True, exist_ok=True)
        with whole_file(_path(spool)) as part:
            part.write_text(json.dumps({"cuts": self.cuts, "source": self.source}))

    @classmethod
    def load(cls, spool: Spool) -> Plan | None:
        """The plan of the run that this folder comes from, if it got so far."""
        path = _path(spool)
        if not path.exists():
            return None
        saved: dict[str, Any] = json.loads(path.read_text())
        return cls(tuple(saved["cuts"]), saved["source"])


def _path(spool: Spool) -> Path:
    return spool.folder / "plan.json"


def parts_for(rows: int, *, workers: int, rows_per_range: int) -> int:
    """How many ranges to cut: small ones, so that little is lost with one, but no more than MOST_RANGES."""
    if rows <= 2_000:
        return 1
    return min(MOST_RANGES, max(workers, ceil(rows / rows_per_range)))


def cuts_from(sample: Sequence[str], kind: Kind) -> tuple[Key, ...]:
    """Sampled keys as texts, made into keys in rising order without repetition."""
    try:
        keys: set[Key] = {int(s) if kind == "bigint" else str(UUID(s)) for s in sample}
    except ValueError:
        raise ReadError(
            f"A key of the table is no {kind}, as its contract says. Nothing was read.",
            remedy="Compare the key's kind in tasks/contracts/ with the column's type.",
        ) from None
    return tuple(sorted(keys))


def source_of(info: TableInfo, server: str) -> str:
    """What a plan is good for: another server, table, column or type makes another one."""
    columns = {c.name: [c.source_name, c.kind, info.type_of(c)] for c in info.columns}
    table = info.table
    return json.dumps([server, table.source_schema, table.source, columns], sort_keys=True)
