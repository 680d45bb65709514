"""The ledger of a dry run: it reads the real one, and writes nothing to it."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from tasks.ledger.lease import Heartbeat, Lease, NoHeartbeat, Ticket
from tasks.ledger.ledger import Ledger, Start, require_past
from tasks.ledger.row import LedgerRow

DRY = "dry-"  # how the id of a dry run begins


class DryLedger(Ledger):
    """No lease is taken and none can be lost."""

    def start(self, start: Start) -> Lease:
        """A lease in name only."""
        dead = self._resumable() if start.as_of.mode == "resume" else None
        return Lease(
            run_id=f"{DRY}{secrets.token_hex(4)}",
            token="",
            as_of=dead.as_of if dead else start.as_of.at,
            as_of_mode=dead.as_of_mode if dead else start.as_of.mode,
            snapshot_at=None,
            transport=start.transport,
            resumed_from=None,
            historical=start.historical,
            last=self._last(),
        )

    def _resumable(self) -> LedgerRow | None:
        """The run that a real one would resume: the last, where it ended without a commit and not long ago."""
        last, within = self._one(kind="run"), timedelta(seconds=self._settings.resume_within)
        ended = last and last.as_of and not last.historical and last.status not in ("committed", "held")
        return last if last and ended and self.clock() - last.started_at < within else None

    def begin(self, lease: Lease, snapshot_at: datetime) -> Lease:
        """As the real ledger decides it."""
        require_past(lease, snapshot_at)
        midnight = snapshot_at.replace(hour=0, minute=0, second=0, microsecond=0)
        as_of = lease.as_of or (snapshot_at if lease.as_of_mode == "now" else midnight)
        current = self.current()
        latest = current.as_of if current and current.as_of else as_of
        earlier = lease.as_of_mode == "at" and as_of < latest
        return replace(lease, as_of=as_of, snapshot_at=snapshot_at, historical=lease.historical or earlier)

    @contextmanager
    def holding(self, lease: Lease) -> Iterator[Heartbeat | NoHeartbeat]:
        """Nothing to keep."""
        yield NoHeartbeat()

    def note_flow_run(self, lease: Lease, flow_run_id: str) -> None:
        """Not recorded."""

    def stage(self, lease: Lease, name: str, **figures: Mapping[str, Any]) -> None:
        """Not recorded."""

    def _finish(self, holder: Lease | Ticket, status: str, error: BaseException, figures: Mapping[str, Any]) -> None:
        """Not recorded."""
