"""The ledger: one row a run, which is the lease too. The database decides who holds it, by its own clock."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, Self

from tasks.errors import ConfigurationError, LeaseHeld, PipelineError, carried
from tasks.ledger.as_of import AsOf
from tasks.ledger.lease import Heartbeat, Lease, NoHeartbeat, Ticket, lease_of
from tasks.ledger.row import LedgerRow
from tasks.platform.functions import Database, Json
from tasks.reports.figures import RunCounts
from tasks.settings import Settings, Transport

logger = logging.getLogger(__name__)
_POLL_SECONDS = 2.0
_SAY_SECONDS = 60.0  # a night may wait for an hour
_LAST_RUNS = 50
_EARLY = timedelta(minutes=1)
_SKEW = timedelta(minutes=10)  # between two clocks, at most: an as_of of before that is past by both


class NotNeeded(Exception):
    """What a run was started for was done by another one, while this one waited for its lease."""


@dataclass(frozen=True, slots=True)
class Start:
    """How a run asks for the lease.

    historical: whatever its as_of, the run changes nothing but its own reports. wait: seconds to wait for another run.
    yields: give way to runs that wait. earlier: the caller's own attempts before this one, which are replaced at once,
    and whose last is resumed. resume_runs: else the runs of which to resume the last that the ledger knows, by their
    ids or by what started them. started_by: what starts this one, as it calls itself. needed: asked before each try to
    take the lease.
    """

    as_of: AsOf
    transport: Transport
    code_version: str = ""
    historical: bool = False
    kind: Literal["run", "restore"] = "run"
    wait: float = 0
    yields: bool = False
    earlier: tuple[Ticket, ...] = ()
    resume_runs: tuple[str, ...] = ()
    started_by: str = ""
    needed: Callable[[Ledger], bool] = lambda ledger: True
    ticket: Ticket = field(default_factory=Ticket.new)


class Ledger:
    """Starts runs, records their stages and ends, and says what was committed."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._settings = settings

    def start(self, start: Start) -> Lease:
        """Take the lease, waiting for another run as long as `start` allows; an unresponsive one is replaced.

        Raises LeaseHeld, which says who holds it and since when, or NotNeeded. To be called in
        `given_back_when_interrupted`.
        """
        if start.as_of.mode == "at" and start.as_of.at is None:
            raise ConfigurationError("An as_of is wanted with this mode.")
        row = self._take(start)
        if self._is_overtaken(row):
            row = row.model_copy(update={"resumed_from": None, "snapshot_at": None})
        return lease_of(row, start.ticket.token, self._last())

    def _is_overtaken(self, row: LedgerRow) -> bool:
        """Whether the reading that a run could continue started before one that was committed since, maybe by another
        machine: its rows would bring back what was changed or deleted by then."""
        if row.snapshot_at is None:
            return False
        newest = self._one(status="committed", kind="run", historical=False)
        return bool(newest and newest.snapshot_at and newest.snapshot_at > row.snapshot_at)

    @contextmanager
    def given_back_when_interrupted(self, ticket: Ticket) -> Iterator[Self]:
        """A signal may come after the database has given the lease, and before anybody here knows of it.

        Nothing where the run of the ticket has ended, or never was.
        """
        try:
            yield self
        except Exception:
            raise
        except BaseException as signal:
            with suppress(PipelineError):  # then its term runs out
                # Nothing, where there is no such run. One whose connection had broken left its words in the signal.
                self._finish(ticket, "failed", carried(signal) or signal, {})
            raise

    def _take(self, start: Start) -> LedgerRow:
        facts, ticket = self._facts(start), start.ticket
        deadline, say_at = time.monotonic() + start.wait, 0.0
        while True:
            if not start.needed(self):
                raise NotNeeded
            try:
                return LedgerRow.model_validate(self._database.call("etl_start", **ticket.evidence, p_facts=facts))
            except LeaseHeld as held:
                now = time.monotonic()
                left = deadline - now
                if left <= 0:
                    raise
                if now >= say_at:
                    logger.info("%s Waiting, %.0f s at most.", held.message, left)
                    say_at = now + _SAY_SECONDS
                if not start.yields:
                    self._database.call("etl_wait", p_run=ticket.run_id)
                time.sleep(min(_POLL_SECONDS, left))

    def _facts(self, start: Start) -> dict[str, Any]:
        return {
            "transport": start.transport,
            "as_of": start.as_of.at.isoformat() if start.as_of.at else None,
            "as_of_mode": start.as_of.mode,
            "lease_seconds": self._settings.lease_seconds,
            "resume_within": self._settings.resume_within,
            "code_version": start.code_version,
            "historical": start.historical,
            "kind": start.kind,
            "yields": start.yields,
            "earlier": [ticket.token for ticket in start.earlier],
            "resume_run": self._own_run(start.earlier) or self._to_resume(start) or None,
            "started_by": start.started_by or None,
        }

    def _own_run(self, earlier: Sequence[Ticket]) -> str | None:
        """The run of the last of these attempts that got as far as the ledger. One that never did has no as_of to keep,
        and must not stand before what was to be resumed."""
        return next((ticket.run_id for ticket in reversed(earlier) if self.run(ticket.run_id)), None)

    def _to_resume(self, start: Start) -> list[str]:
        """`resume_runs`; none where a `resume` died before the ledger knew it: that was to resume the last run."""
        runs = list(start.resume_runs)
        if runs and start.as_of.mode == "resume":
            newest = self.runs(_LAST_RUNS, kind="run")
            return runs if any(row.run_id in runs or row.started_by in runs for row in newest) else []
        return runs

    def wait_until_past(self, lease: Lease) -> None:
        """A night of 00:00 is as of its own start, which a database whose clock is seconds behind has yet to reach."""
        if lease.as_of is None or lease.as_of < datetime.now(UTC) - _SKEW:
            return
        early = lease.as_of - self.clock()
        if timedelta(0) < early <= _EARLY:
            logger.info("The database's clock is %.1f s behind as_of: waiting.", early.total_seconds())
            time.sleep(early.total_seconds())

    def begin(self, lease: Lease, snapshot_at: datetime) -> Lease:
        """Reading started at this instant of the database's clock: fixes `as_of` and `historical`.

        ConfigurationError when as_of is later than that: a report must not be as of what has not happened yet.
        """
        require_past(lease, snapshot_at)
        row = self._database.call("etl_begin", **lease.evidence, p_began=snapshot_at.isoformat())
        return lease_of(LedgerRow.model_validate(row), lease.token, lease.last)

    @contextmanager
    def holding(self, lease: Lease) -> Iterator[Heartbeat | NoHeartbeat]:
        """Keep the lease while the block runs, also while it waits for the network; `check()` raises LeaseLost."""
        heartbeat = Heartbeat(self._settings, lease)
        heartbeat.start()
        try:
            yield heartbeat
        finally:
            heartbeat.stop()

    def note_flow_run(self, lease: Lease, flow_run_id: str) -> None:
        """Which flow run of Prefect's this run belongs to, so that its page can be found."""
        self._database.call("etl_note_flow_run", **lease.evidence, p_flow_run=flow_run_id)

    def stage(self, lease: Lease, name: str, **figures: Mapping[str, Any]) -> None:
        """A stage begins. figures: `seconds`, `bytes`, `counts`, merged into what the ledger has. Raises LeaseLost."""
        self._database.call("etl_stage", **lease.evidence, p_stage=name, p_figures=figures)

    def fail(self, lease: Lease, error: BaseException, **figures: Mapping[str, Any]) -> None:
        """The run failed in the stage recorded last. A run that was replaced, or is finished, stays as it is."""
        self._finish(lease, "failed", error, figures)

    def hold(self, lease: Lease, error: BaseException, **figures: Mapping[str, Any]) -> None:
        """A guard stopped the run; a person decides."""
        self._finish(lease, "held", error, figures)

    def _finish(self, holder: Lease | Ticket, status: str, error: BaseException, figures: Mapping[str, Any]) -> None:
        name = type(error).__name__
        text = f"{name}: {error}" if isinstance(error, PipelineError) else name  # others may quote data
        text = text.removeprefix("PipelineError: ")  # a run that was stopped: nothing went wrong
        stopped = type(error) is PipelineError or not isinstance(error, Exception)
        facts = {**holder.evidence, "p_status": status, "p_error": text, "p_figures": figures}
        once = (lambda _: True) if stopped else None  # the end waits for it, and without it the lease's term runs out
        self._database.call("etl_finish", give_up=once, **facts)

    def restore(self, lease: Lease, target: str, aggregates: Json) -> None:
        """Make the committed run `target` the current one, with these aggregates; ends `lease`, which is a restore."""
        self._database.call("etl_restore", **lease.evidence, p_target=target, p_aggregates=aggregates)

    def current(self) -> LedgerRow | None:
        """The run that latest.json must name and whose aggregates are in Postgres; None before the first commit."""
        return self._one(current=True)

    def run(self, run_id: str) -> LedgerRow | None:
        """One row of the ledger."""
        return self._one(run_id=run_id)

    def runs(self, limit: int = 100, **filters: Any) -> list[LedgerRow]:
        """Rows of the ledger, newest first. filters: status, kind, historical, as_of (a list of instants, ISO)."""
        answer = self._database.call("etl_history", p_filter={"limit": limit, **filters})
        return [LedgerRow.model_validate(row) for row in answer]

    def has_committed(self, as_of: datetime, since: datetime) -> bool:
        """Whether a run of this as_of was committed after `since`, by the database's clock."""
        rows = self.runs(_LAST_RUNS, status="committed", kind="run", as_of=[as_of.isoformat()])
        return any(row.finished_at and row.finished_at > since for row in rows)

    def clock(self) -> datetime:
        """The database's clock, by which runs are dated."""
        return datetime.fromisoformat(self._database.call("etl_doctor")["clock"])

    def held_values(self) -> dict[str, float]:
        """The metrics that held the last run, by name, when nothing was committed since: what may be accepted."""
        newest = self.runs(20, kind="run", historical=False)
        for row in newest:
            if row.status == "committed":
                break
            if row.status == "held":
                return dict(row.counts.held)
        return {}

    def _one(self, **filters: Any) -> LedgerRow | None:
        rows = self.runs(1, **filters)
        return rows[0] if rows else None

    def _last(self) -> RunCounts | None:
        row = self.current()
        return row.counts if row else None


@contextmanager
def unrecorded_end_logged() -> Iterator[None]:
    """The block records how a run ended. Where the ledger does not answer, that is logged: the run's error counts."""
    try:
        yield
    except PipelineError as second:
        logger.warning("The ledger could not record how the run ended: %s", second.message)


def require_past(lease: Lease, snapshot_at: datetime) -> None:
    """ConfigurationError when the lease's as_of is later than `snapshot_at`, the database's clock."""
    if lease.as_of is not None and lease.as_of > snapshot_at:
        raise ConfigurationError(
            f"as_of {lease.as_of.isoformat()} is later than the database's clock, {snapshot_at.isoformat()}.",
            remedy="Give an earlier as_of, or `now`. Nothing was read.",
        )
