"""A run from its lease to its end: what the stages share, how it starts, resumes and fails, and what it leaves."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal, cast

from prefect.runtime import flow_run

from flows.engine.outcome import COMPARED_DAYS, RunRequest
from flows.engine.written import written_before
from tasks.errors import PipelineError, RunHeld, carried
from tasks.incremental.base import Base
from tasks.incremental.mode import Mode
from tasks.incremental.night import IncrementalNight
from tasks.ledger.dry import DryLedger
from tasks.ledger.lease import Heartbeat, Lease, NoHeartbeat
from tasks.ledger.ledger import Ledger, Start, unrecorded_end_logged
from tasks.ledger.resume import can_be_resumed, kept_snapshot_at, open_workspace
from tasks.ledger.row import LedgerRow
from tasks.platform.code import CODE
from tasks.platform.dask import open_workers
from tasks.platform.functions import Database, open_database
from tasks.platform.interrupts import signals_end_statements, uninterrupted
from tasks.platform.project import require_project
from tasks.platform.traffic import TRAFFIC
from tasks.platform.workers import Workers
from tasks.publish.pointer import point_to_current
from tasks.reports.figures import PastRun
from tasks.settings import Settings
from tasks.source import Preflight, Source, open_source
from tasks.workspace import Workspace

logger = logging.getLogger(__name__)
_HISTORY_RUNS = 60
_WITH_RESUME = "; with `--as-of resume` it has the same as_of."


class Run:
    """One running run: what its stages share. A plain class, since Prefect looks into dataclasses given to a task."""

    workspace: Workspace
    source: Source
    workers: Workers
    heartbeat: Heartbeat | NoHeartbeat

    def __init__(
        self, settings: Settings, request: RunRequest, database: Database, ledger: Ledger, lease: Lease
    ) -> None:
        self.settings, self.request = settings, request
        self.database, self.ledger, self.lease = database, ledger, lease
        self.stages: dict[str, dict[str, float]] = {}
        self.figures: dict[str, Any] = {}
        self._counted = TRAFFIC.totals()  # what is sent between two stages, by threads beside them, is the next one's
        self.rows: dict[str, int] = {}  # read, by table
        self.identity: list[str] = []  # who acts, and what it may do beyond what a run needs
        self.row_bytes: dict[str, float] = {}  # of a full read, by table
        self.mode = Mode(None)
        self.night: IncrementalNight | None = None
        self.sources: Preflight
        self.seed = ""
        self.not_read: dict[str, int] = {}
        self.drifted: int | None = None
        self.marked = 0  # cleaned rows that somebody changed by hand, without their hash from here on
        self.comparable: Base | None = None  # a base that a full night is compared with
        self.has_stored = False  # files, before the stage that publishes
        self.committed = False
        self.is_over = False  # another run uses what this one read: what ends that one is not about this one
        self._past: list[PastRun] | None = None

    @property
    def audited(self) -> Base | None:
        """What a full night is compared with; None of an incremental one."""
        return self.comparable if self.night is None else None

    @property
    def as_of(self) -> datetime:
        return cast(datetime, self.lease.as_of)

    @property
    def snapshot_at(self) -> datetime:
        return cast(datetime, self.lease.snapshot_at)

    @property
    def stage(self) -> str:
        """The stage that was entered last."""
        return next(reversed(self.stages), "Start")

    @property
    def folder(self) -> Path:
        return self.workspace.root

    def enter(self, title: str) -> None:
        """A stage begins: the lease must still be ours, and the ledger learns where the run is."""
        if not self.committed:
            self.heartbeat.check()
            self.ledger.stage(self.lease, title.lower(), **self.totals())
        self.figures = {}
        counters = {"seconds": 0.0, "cpu": time.process_time(), **self._counted}
        earlier = self.stages.pop(title, {})  # of a night that turned out to be full on its way: both count
        self.stages[title] = {name: earlier.get(name, 0.0) - before for name, before in counters.items()}

    def leave(self, title: str, seconds: float) -> None:
        """A stage has ended: one line of log with its numbers."""
        stage = self.stages[title]
        stage["seconds"] = round(stage["seconds"] + seconds, 3)
        stage["cpu"] = round(stage["cpu"] + time.process_time(), 3)  # of this process, all of its threads
        self._counted = TRAFFIC.totals()
        for way, count in self._counted.items():
            stage[way] += count
        stage["rows"] = self.figures.get("rows", 0)
        facts = {**self.figures, **{name: stage[name] for name in ("seconds", "sent", "received")}}
        logger.info("stage=%r %s", title, " ".join(f"{name}={value}" for name, value in facts.items()))

    def record(self, **figures: Any) -> None:
        """Figures of the running stage, for its line of log: numbers and names of ours, nothing of a row."""
        self.figures.update(figures)

    def totals(self) -> dict[str, dict[str, float]]:
        """Seconds and bytes by stage, as the ledger keeps them."""
        return {
            "seconds": {title: stage["seconds"] for title, stage in self.stages.items()},
            "bytes": {title: stage["sent"] + stage["received"] for title, stage in self.stages.items()},
        }

    def begin(self, snapshot_at: datetime) -> None:
        """Reading starts: fixes `as_of`, and what a run that resumes this one must know."""
        self.lease = self.ledger.begin(self.lease, snapshot_at)
        self.workspace.note(
            run_id=self.lease.run_id,
            as_of=self.as_of,
            snapshot_at=self.snapshot_at,
            transport=self.lease.transport,
            code=CODE,
        )

    def history(self) -> list[PastRun]:
        """Earlier runs that were committed or held, newest first; asked for once, as 60 of them are 250 kB.

        Behind the 60 also the nights with which the figures are compared: a watch commits hundreds a day.
        """
        if self._past is None:
            runs = self.ledger.runs(_HISTORY_RUNS, kind="run", historical=False)
            if nights := _beyond(runs, self.as_of):
                runs += self.ledger.runs(_HISTORY_RUNS, kind="run", historical=False, as_of=nights)
            self._past = [_past(run, run.as_of) for run in runs if run.as_of and run.status in ("committed", "held")]
        return self._past


def _beyond(runs: Sequence[LedgerRow], as_of: datetime) -> list[str]:
    """The midnights that are compared with, as ISO, and that all of these runs are later than."""
    known = min((run.as_of for run in runs if run.as_of), default=as_of)
    near = [as_of - timedelta(days=days) + timedelta(hours=12) for days in COMPARED_DAYS]
    midnights = [at.replace(hour=0, minute=0, second=0, microsecond=0) for at in near]
    return [at.isoformat() for at in midnights if len(runs) == _HISTORY_RUNS and at < known]


def _past(run: LedgerRow, as_of: datetime) -> PastRun:
    event: Literal["", "held", "accepted"] = "accepted" if run.counts.accepted else ""
    return PastRun(
        as_of=as_of,
        shares=run.counts.shares,
        headline=run.counts.headline,
        event="held" if run.status == "held" else event,
        run_id=run.run_id,
    )


@contextmanager
def open_run(settings: Settings, request: RunRequest, start: Start) -> Iterator[Run]:
    """Hold the lease, the run's folder and the source for the stages inside; the commit is theirs.

    Raises LeaseHeld while another run holds the lease. On any error the ledger records what happened; the run's folder
    stays only where a later run can continue the reading in it.
    """
    require_project(settings)
    kind = DryLedger if request.dry_run else Ledger
    with (
        signals_end_statements(),
        open_database(settings) as database,
        kind(database, settings).given_back_when_interrupted(start.ticket) as ledger,
    ):
        run = Run(settings, request, database, ledger, ledger.start(start))
        with (
            _end_recorded(run),
            ledger.holding(run.lease) as run.heartbeat,
            open_workspace(settings, run.lease) as run.workspace,
            _folder_removed(run),
        ):
            if flow_run.id:
                ledger.note_flow_run(run.lease, str(flow_run.id))
            if not request.dry_run:
                point_to_current(settings, ledger)  # an earlier run may have died before it did
            with (
                open_workers(settings, run.workspace) as run.workers,
                open_source(settings, snapshot_at=kept_snapshot_at(run.workspace), workers=run.workers) as run.source,
            ):
                yield run


@contextmanager
def open_next(before: Run, request: RunRequest, start: Start) -> Iterator[Run]:
    """Another run on the rows that `before`, which is committed, has read and cleaned: with a lease of its own."""
    before.heartbeat.stop()
    before.is_over = True
    with before.ledger.given_back_when_interrupted(start.ticket) as ledger:
        run = Run(before.settings, request, before.database, ledger, ledger.start(start))
        with _end_recorded(run), ledger.holding(run.lease) as run.heartbeat:
            run.workspace, run.source, run.workers = before.workspace, before.source, before.workers
            run.lease = ledger.begin(run.lease, before.snapshot_at)
            yield run


@contextmanager
def _end_recorded(run: Run) -> Iterator[None]:
    """An error that ends the block is recorded in the ledger, and learns which run it ended."""
    try:
        yield
    except BaseException as error:
        if run.is_over:
            raise
        # What is no Exception is a signal: ours, or Prefect's of a flow run that was cancelled.
        ended = error if isinstance(error, Exception) else _stopped(run, error)
        if isinstance(error, PipelineError):
            _describe(error, run)
        elif isinstance(error, KeyboardInterrupt):
            error.args = (ended,)
        _record(run, ended)
        raise


def _stopped(run: Run, signal: BaseException) -> PipelineError:
    """What a person or the system ended, for the ledger and as the KeyboardInterrupt's only argument.

    signal: what it broke off may have said in it what is written.
    """
    past = run.lease.historical
    stopped = PipelineError("Stopped.", remedy=f"Start it again{'.' if past else _WITH_RESUME}")
    if run.committed:
        remedy = "" if past else "The next start moves `latest.json`."
        stopped = PipelineError("Stopped after the commit.", remedy=remedy)
    if said := carried(signal):
        stopped.written = said.written
    _describe(stopped, run)
    return stopped


def _describe(error: PipelineError, run: Run) -> None:
    error.run_id, error.stage = run.lease.run_id, run.stage
    stage = "Move pointer" if run.committed else run.stage
    error.written = error.written or written_before(stage, run.lease, has_stored=run.has_stored)
    if run.marked and not run.committed:
        error.written += (
            f" {run.marked:,} rows that somebody changed by hand are marked: the next full night fixes them."
        )
    error.facts = {
        "committed": run.committed,
        "as_of": run.lease.as_of.isoformat() if run.lease.as_of else None,
        "transport": run.lease.transport,
        "stages": run.stages,
        "page": flow_run.ui_url or "",
        **run.mode.facts(run.not_read, run.drifted),
    }


def _record(run: Run, error: BaseException) -> None:
    with unrecorded_end_logged():
        if isinstance(error, RunHeld):
            run.ledger.hold(run.lease, error, counts={"held": error.values}, **run.totals())
        else:
            run.ledger.fail(run.lease, error, **run.totals())


@contextmanager
def _folder_removed(run: Run) -> Iterator[None]:
    """The run's folder holds personal data: it goes with the run, unless a later run can continue its reading."""
    keep = False
    try:
        yield
    except RunHeld:
        raise
    except BaseException:
        keep = not run.request.dry_run and not run.committed and can_be_resumed(run.workspace)
        raise
    finally:
        if not keep:
            with uninterrupted():  # half of it would hold personal data
                run.workspace.remove()
