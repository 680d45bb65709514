"""A run from its lease to its end: what the stages share, how it starts, resumes and fails, and what it leaves."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from prefect.runtime import flow_run

from flows.engine.outcome import RunRequest
from tasks.errors import PipelineError, RunHeld, TerminalError
from tasks.ledger.ledger import AsOfMode, Heartbeat, Ledger
from tasks.ledger.ledger import Run as Lease
from tasks.ledger.resume import DRY, contract_fingerprint, kept_began, open_workspace
from tasks.platform.dask import open_workers
from tasks.platform.functions import open_database
from tasks.platform.http import TRAFFIC
from tasks.platform.workers import HERE, Workers
from tasks.publish.pointer import repair_pointer
from tasks.settings import Settings
from tasks.source import Source, open_source
from tasks.version import code_version
from tasks.workspace import Workspace

logger = logging.getLogger(__name__)
_HISTORY_RUNS = 60


class Run:
    """One run at work: what its stages share. A plain class, since Prefect looks into dataclasses given to a task."""

    def __init__(self, settings: Settings, request: RunRequest, workspace: Workspace, lease: Lease) -> None:
        self.settings, self.request, self.workspace, self.lease = settings, request, workspace, lease
        self.source: Source
        self.workers: Workers = HERE
        self.ledger: Ledger | None = None
        self.heartbeat: Heartbeat | None = None
        self.stages: dict[str, dict[str, float]] = {}
        self.figures: dict[str, Any] = {}
        self.rows: dict[str, int] = {}  # read, by table
        self.committed = False

    @property
    def folder(self) -> Path:
        return self.workspace.root

    @property
    def as_of(self) -> datetime:
        return cast(datetime, self.lease.as_of)

    @property
    def began(self) -> datetime:
        return cast(datetime, self.lease.began)

    @property
    def stage(self) -> str:
        """The stage that was entered last."""
        return next(reversed(self.stages), "Start")

    def enter(self, title: str) -> None:
        """A stage begins: the lease must still be ours, and the ledger learns where the run is."""
        if self.heartbeat and self.ledger and not self.committed:
            self.heartbeat.check()
            self.ledger.stage(self.lease, title.lower(), **self.totals())
        self.figures = {}
        self.stages[title] = {"seconds": 0.0, "sent": -TRAFFIC.sent, "received": -TRAFFIC.received}

    def leave(self, title: str, seconds: float) -> None:
        """A stage has ended: one line of log with its numbers."""
        stage = self.stages[title]
        stage["seconds"] = round(seconds, 3)
        stage["sent"] += TRAFFIC.sent
        stage["received"] += TRAFFIC.received
        stage["rows"] = self.figures.get("rows", 0)
        facts = {**self.figures, **{name: stage[name] for name in ("seconds", "sent", "received")}}
        logger.info("stage=%r %s", title, " ".join(f"{name}={value}" for name, value in facts.items()))

    def tell(self, **figures: Any) -> None:
        """Figures of the stage at work, for its line of log: numbers and names of ours, nothing of a row."""
        self.figures.update(figures)

    def totals(self) -> dict[str, dict[str, Any]]:
        """Seconds and bytes by stage, as the ledger keeps them."""
        return {
            "seconds": {title: stage["seconds"] for title, stage in self.stages.items()},
            "bytes": {title: stage["sent"] + stage["received"] for title, stage in self.stages.items()},
        }

    def begin(self, began: datetime) -> None:
        """Reading begins: settles `as_of`, and what a run that resumes this one must know."""
        if self.ledger:
            self.lease = self.ledger.begin(self.lease, began)
        else:
            self.lease = _dry_lease(self.request, self.settings, began)
        self.workspace.note(
            run_id=self.lease.run_id,
            as_of=self.as_of,
            began=self.began,
            transport=self.lease.transport,
            contract=contract_fingerprint(),
        )

    def history(self) -> list[dict[str, Any]]:
        """Earlier committed runs with the shares of their rules, for the charts."""
        if not self.ledger:
            return []
        runs = self.ledger.runs(_HISTORY_RUNS, status="committed", kind="run", historical=False)
        return [{"as_of": run["as_of"], "rules": run["counts"].get("rules", [])} for run in runs]


@contextmanager
def open_run(settings: Settings, request: RunRequest) -> Iterator[Run]:
    """Hold the lease and the source for the stages inside; then commit is theirs, and every other end is told here.

    Raises LeaseHeld when another run is at work. On any error the ledger learns what happened; the run's folder stays
    for a resume, unless the run was held.
    """
    if request.dry_run:
        with _open_dry_run(settings, request) as run:
            yield run
        return
    with open_database(settings) as database:
        ledger = Ledger(database, settings)
        repair_pointer(settings, ledger.current())
        lease = _take_lease(ledger, settings, request)
        if flow_run.id:
            ledger.note_flow_run(lease, str(flow_run.id))
        with _told(ledger, lease) as holder, ledger.holding(lease) as heartbeat, ExitStack() as stack:
            run = Run(settings, request, open_workspace(settings, lease), lease)
            run.ledger, run.heartbeat = ledger, heartbeat
            holder.append(run)
            run.source = stack.enter_context(open_source(settings, began=kept_began(run.workspace)))
            run.workers = stack.enter_context(open_workers(settings, run.workspace))
            yield run
        run.workspace.remove()


def _take_lease(ledger: Ledger, settings: Settings, request: RunRequest) -> Lease:
    mode, as_of = as_of_mode(request)
    return ledger.start(
        mode,
        as_of,
        transport=settings.resolved_transport,
        code_version=code_version(),
        historical=request.historical,
    )


def as_of_mode(request: RunRequest) -> tuple[AsOfMode, datetime | None]:
    """How the ledger is to settle as_of; the midnight of a scheduled run is that of its scheduled day, in UTC."""
    if request.as_of in ("midnight", "resume"):
        day = request.scheduled
        midnight = day.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0) if day else None
        return cast(AsOfMode, request.as_of), midnight
    if request.as_of == "now":
        return "now", None
    return "at", datetime.fromisoformat(request.as_of).astimezone(UTC)


@contextmanager
def _told(ledger: Ledger, lease: Lease) -> Iterator[list[Run]]:
    """Whatever ends the block early is told to the ledger; a held run leaves no folder."""
    holder: list[Run] = []
    try:
        yield holder
    except RunHeld as error:
        _describe(error, lease, holder)
        ledger.hold(lease, error, **_totals(holder))
        for run in holder:
            run.workspace.remove()
        raise
    except BaseException as error:
        if isinstance(error, PipelineError):
            _describe(error, lease, holder)
        _tell_failure(ledger, lease, error, _totals(holder))
        raise


def _totals(holder: list[Run]) -> Mapping[str, Any]:
    return holder[0].totals() if holder else {}


def _describe(error: PipelineError, lease: Lease, holder: list[Run]) -> None:
    error.run_id = lease.run_id
    error.stage = holder[0].stage if holder else "Start"
    error.written = written_before(error.stage, lease.transport)


def written_before(stage: str, transport: str) -> str:
    """What a run that ends in this stage has written, in words: no reader of `latest.json` sees any of it."""
    if stage == "Publish":
        return "Some files under a path that nothing points to; retention removes them. No row changed."
    if stage == "Load and commit" and transport == "rest":
        return "All files and some of the changed rows; the next run writes the others. `latest.json` did not move."
    if stage == "Load and commit":
        return "All files, which nothing points to. No row changed: the transaction was rolled back."
    if stage == "Move pointer":
        return "Everything, and it is committed; only `latest.json` did not move. The next start moves it."
    return "Nothing: no file and no row."


def _tell_failure(ledger: Ledger, lease: Lease, error: BaseException, totals: Mapping[str, Any]) -> None:
    try:
        ledger.fail(lease, error, **totals)
    except PipelineError as second:
        logger.warning("The ledger could not be told that the run failed: %s", second.message)


@contextmanager
def _open_dry_run(settings: Settings, request: RunRequest) -> Iterator[Run]:
    """Everything that reads, nothing that writes: no lease, and a folder that goes in any case."""
    name = f"{DRY}{secrets.token_hex(4)}"
    workspace = Workspace.create(settings.data_dir, name)
    try:
        with open_source(settings) as source, open_workers(settings, workspace) as workers:
            run = Run(settings, request, workspace, _dry_lease(request, settings, None, name))
            run.source, run.workers = source, workers
            yield run
    finally:
        workspace.remove()


def _dry_lease(request: RunRequest, settings: Settings, began: datetime | None, name: str = DRY) -> Lease:
    mode, as_of = as_of_mode(request)
    if began and as_of is None:
        midnight = began.replace(hour=0, minute=0, second=0, microsecond=0)
        as_of = began if mode == "now" else midnight
    if began and as_of and as_of > began:
        raise TerminalError(f"as_of {as_of.isoformat()} is later than the database's clock, {began.isoformat()}.")
    return Lease(
        run_id=name,
        token="",
        as_of=as_of,
        as_of_mode=mode,
        began=began,
        transport=settings.resolved_transport,
        resumed_from=None,
        historical=False,
        last=None,
    )
