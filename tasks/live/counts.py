"""How much changed in the sources, by the database's own counters: cheap, and blind to nothing that commits.

PostgreSQL counts rows inserted, updated and deleted per table. The counters are a few seconds late at most, count what
was rolled back too, and start at zero after a reset or a crash; TRUNCATE is not in them, but in the marker.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tasks.contracts import TABLES
from tasks.live.health import write_private
from tasks.platform.functions import Database
from tasks.retry import GiveUp
from tasks.settings import Settings

LATE_SECONDS = 15.0  # an idle connection reports its counts after ten seconds at the latest


@dataclass(frozen=True, slots=True)
class SourceCount:
    """One source. changes: rows ever changed. marker: differs after TRUNCATE or a new shape. published: by Realtime."""

    changes: int
    marker: str
    counted: bool = True
    published: bool = False


@dataclass(frozen=True, slots=True)
class Counts:
    """The counters at one instant. clock: the database's. epoch: differs where counters cannot be compared.

    running: the run that holds the lease now. read_at: up to when the last committed run has what was there: when its
    reading started, or its as_of where that is earlier; started_at: when that run started; both by the database's
    clock. realtime: whether there is a publication at all.
    """

    clock: datetime
    epoch: str
    sources: Mapping[str, SourceCount]
    running: str | None = None
    read_at: datetime | None = None
    started_at: datetime | None = None
    realtime: bool = False

    def since(self, base: Counts | None) -> int:
        """Rows changed since `base`; at least 1 where it is not known: no base, a reset, a counter that went back."""
        if base is None:
            return 1
        total, unknown = 0, self.epoch != base.epoch
        for name, now in self.sources.items():
            then = base.sources.get(name)
            unknown |= then is None or then.marker != now.marker or now.changes < then.changes
            total += max(0, now.changes - then.changes) if then else 0
        return max(total, 1) if unknown else total

    @property
    def published(self) -> list[str]:
        """The sources that Realtime publishes."""
        return [name for name, source in self.sources.items() if source.published]

    @property
    def uncounted(self) -> list[str]:
        """Sources without counters: foreign tables, and what is not there."""
        return [name for name, source in self.sources.items() if not source.counted]


def fetch_counts(database: Database, *, give_up: GiveUp | None = None) -> Counts:
    """Ask the database. Raises the errors of `Database.call`."""
    asked = [{"name": t.name, "schema": t.source_schema, "table": t.source} for t in TABLES]
    return parse_counts(database.call("etl_changes", give_up=give_up, p_sources=asked))


def parse_counts(answer: Mapping[str, Any]) -> Counts:
    """Counts from the answer of `etl_changes`, or from a kept one."""
    committed = answer.get("committed") or {}
    return Counts(
        clock=datetime.fromisoformat(answer["clock"]),
        epoch=answer["epoch"],
        sources={
            name: SourceCount(int(s["changes"]), s["marker"], bool(s["counted"]), bool(s.get("published")))
            for name, s in answer["sources"].items()
        },
        running=answer.get("running"),
        read_at=min((at for at in map(_instant, (committed.get("began"), committed.get("as_of"))) if at), default=None),
        started_at=_instant(committed.get("started_at")),
        realtime=bool(answer.get("realtime")),
    )


def to_json(counts: Counts) -> dict[str, Any]:
    """What of the counts a later process needs to go on from them."""
    sources = {n: {"changes": s.changes, "marker": s.marker, "counted": s.counted} for n, s in counts.sources.items()}
    return {"clock": counts.clock.isoformat(), "epoch": counts.epoch, "sources": sources}


def keep_base(settings: Settings, base: Counts | None) -> None:
    """Write down what is published, so that a new start of the watch starts no run for nothing."""
    if base is not None:
        content = {"project": settings.project, "base": to_json(base)}
        write_private(settings.data_dir / "watch-base.json", content)


def kept_base(settings: Settings) -> Counts | None:
    """What an earlier watch of this project wrote down; None when nobody did."""
    try:
        kept = json.loads((settings.data_dir / "watch-base.json").read_text())
        return parse_counts(kept["base"]) if kept.get("project") == settings.project else None
    except (OSError, AttributeError, KeyError, TypeError, ValueError):
        return None


def _instant(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
