"""The pipeline as a whole: the order of the stages, and the outcome of a run."""

from __future__ import annotations

import gc
import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from importlib import import_module

from flows import USUAL
from flows.engine import incremental, stages
from flows.engine.outcome import RunOutcome, RunRequest
from flows.engine.pointing import Pointer, move_pointer
from flows.engine.run import Run, open_run
from tasks.arrow.ahead import beside
from tasks.cleaning.counts import CleanCounts
from tasks.cleaning.samples import load_samples
from tasks.contracts import DATA_QUALITY, FURTHER_TABLES
from tasks.errors import ChoiceError, FileLost, LeaseHeld, PipelineError, TransientError
from tasks.files.manifest import HISTORICAL_NOTE, FileEntry
from tasks.ledger.guard import require_known
from tasks.ledger.lease import Ticket
from tasks.ledger.ledger import Ledger, Start
from tasks.platform.functions import open_database
from tasks.platform.identity import acting
from tasks.platform.version import code_version
from tasks.reports.figures import RunCounts
from tasks.settings import Settings, settings_over
from tasks.sink import LoadCounts, TablePlan
from tasks.source import Preflight

logger = logging.getLogger(__name__)


def run_pipeline(request: RunRequest) -> RunOutcome:
    """Run every stage once; after a failure that a new start may fix it is started again, with the same as_of.

    Raises LeaseHeld while another run holds the lease, RunHeld when a metric is outside its bounds, and any other
    PipelineError when the run failed. Readers never see a partial run, and the ledger says what happened.
    """
    gc.set_threshold(*USUAL)  # garbage that is found late holds batches of rows: a full night took twice as much
    settings = settings_over(request.transport)
    with acting(settings):  # a signed-in user is signed out when the run has ended
        _require_known(settings, request.accept)
        return _run_until_it_ends(settings, request)


def _run_until_it_ends(settings: Settings, request: RunRequest) -> RunOutcome:
    earlier: tuple[Ticket, ...] = ()
    for attempt in range(settings.run_retries + 1):
        start = start_of(settings, request, earlier)
        try:
            return _run_once(settings, request, start)
        except LeaseHeld:
            raise
        except TransientError as error:
            if attempt == settings.run_retries or request.dry_run:
                raise
            logger.warning("%s Started again in %g s.", error, settings.run_retry_seconds)
            earlier = (*earlier, start.ticket)
            time.sleep(settings.run_retry_seconds)
    raise AssertionError("unreachable")


def _require_known(settings: Settings, accept: Iterable[str]) -> None:
    """ChoiceError for a name that no metric has; it lists those that held the last run, where that is known."""
    try:
        require_known(accept)
    except ChoiceError as error:
        with suppress(PipelineError), open_database(settings) as database:
            held = ", ".join(Ledger(database, settings).held_values())
            last = f"The last run was held for {held}." if held else "The last run was not held: leave it empty."
            error.remedy = f"{error.remedy} {last}"
        raise


def start_of(settings: Settings, request: RunRequest, earlier: tuple[Ticket, ...] = ()) -> Start:
    """How the request asks for the lease. earlier: this call's own attempts, which must not stand in its way.

    The server may take a moment to notice that an earlier attempt's connection is gone, so a later one waits a term.
    """
    wait = settings.lease_wait(scheduled=request.scheduled)
    return Start(
        request.as_of,
        settings.resolved_transport,
        code_version=code_version(),
        historical=request.historical,
        wait=max(wait, settings.lease_seconds) if earlier else wait,
        earlier=earlier,
        yields=request.yields,
        resume_runs=request.resume_runs,
        started_by=request.started_by,
    )


def _run_once(settings: Settings, request: RunRequest, start: Start) -> RunOutcome:
    with open_run(settings, request, start) as run:
        users, posts = read_and_clean(run)
        return report_and_commit(run, users, posts)


def read_and_clean(run: Run) -> tuple[CleanCounts, CleanCounts]:
    """From the sources to cleaned rows in the run's folder: what changed since the last run, or everything."""
    sources = stages.check_sources(run)
    _import_ahead(run)
    found = incremental.find_changes(run, sources)
    if found:
        users = stages.clean_the_users(run, found)
        posts = stages.clean_the_posts(run, users)
        if FURTHER_TABLES:
            stages.clean_the_further(run, posts)
        if incremental.merge_with_base(run, users, posts):
            return users, posts
    return _read_everything(run, sources)


def _import_ahead(run: Run) -> None:
    """What is needed last and takes half a second to import, on a thread, while the database answers."""
    charts = () if run.request.dry_run else ("tasks.charts",)
    names = (*charts, "pandera.backends.pandas.register")  # which pandera imports at the first check

    def import_all() -> None:
        for name in names:
            import_module(name)

    threading.Thread(target=import_all, name="imports").start()


def report_and_commit(run: Run, users: CleanCounts, posts: CleanCounts) -> RunOutcome:
    """From cleaned rows to a committed run that readers see; a dry run ends before the first write."""
    try:
        files, plans = _report(run, users, posts)
    except FileLost as lost:  # of the last run, found while it was copied
        incremental.go_full_without(run, lost)
        files, plans = _report(run, *_read_everything(run, run.sources))
    if run.request.dry_run:
        return _outcome(run, files.counts, plans)
    published = stages.publish_the_files(run, files)
    loaded = stages.load_and_commit(run, published, files.counts, plans)
    incremental.keep_base(run, published.files)
    return _outcome(run, files.counts, loaded, published, move_pointer(run, published, loaded))


def _report(run: Run, users: CleanCounts, posts: CleanCounts) -> tuple[stages.Files, Mapping[str, TablePlan]]:
    """The files of the run, and what it will write; of a dry run no files.

    Charts are drawn while the database compares and files are written, which wait for other things than Python.
    """
    with incremental.stored_ahead(run):
        counts = stages.build_the_reports(run, users, posts)
        with beside(_charts_of(run)) as charts:
            plans = stages.compare(run, counts)
            approved = stages.guard(run, counts, plans)
            if run.request.dry_run:
                return stages.Files([], approved), plans
            if incremental.changed_by_hand(run):
                plans = stages.compare(run, counts)
            files = stages.write_the_files(run, approved, plans)
        return replace(files, entries=[*files.entries, *charts.result()]), plans


def _charts_of(run: Run) -> Callable[[], list[FileEntry]]:
    """What draws the charts of a run, from its reports. Of a dry run there are none."""
    if run.request.dry_run:
        return list
    history = run.history()

    def draw() -> list[FileEntry]:
        from tasks.charts import draw_charts  # not above: matplotlib is a sixth of what a command would import

        return draw_charts(run.workspace, as_of=run.as_of, history=history, settings=run.settings)

    return draw


def _read_everything(run: Run, sources: Preflight) -> tuple[CleanCounts, CleanCounts]:
    read_posts = stages.read_posts(run, sources)
    read_users = stages.read_users(run, read_posts)
    if FURTHER_TABLES:
        stages.read_further(run, read_users)
    rechecked = stages.recheck_orphans(run, read_posts, read_users)
    users = stages.clean_the_users(run, rechecked)
    posts = stages.clean_the_posts(run, users)
    if FURTHER_TABLES:
        stages.clean_the_further(run, posts)
    return users, posts


def _outcome(
    run: Run,
    counts: RunCounts,
    written: Mapping[str, TablePlan] | Mapping[str, LoadCounts],
    published: stages.Published | None = None,
    pointer: Pointer | None = None,
) -> RunOutcome:
    return RunOutcome(
        status="committed" if published else "dry_run",
        run_id=run.lease.run_id,
        as_of=run.as_of,
        snapshot_at=run.snapshot_at,
        transport=run.lease.transport,
        headline=counts.headline,
        tables={name: {**of.model_dump(), **_written(written, name)} for name, of in counts.tables.items()},
        quality=run.workspace.report(DATA_QUALITY).table().to_pylist(),
        stages=run.stages,
        project=run.settings.supabase_url,
        bucket=run.settings.bucket,
        samples=load_samples(run.workspace),
        run_path=published.manifest.run_path if published else None,
        files=published.files if published else (),
        last=run.lease.last,
        notes=[*_notes(run), *(pointer.notes if pointer else ())],
        current=bool(pointer and pointer.current),
        identity=run.identity,
        mode=run.mode.name,
        base_run=run.mode.base.run_id if run.mode.base else None,
        full_because=run.mode.because or None,
        not_read=run.not_read,
        drifted=run.drifted,
        historical=run.lease.historical,
        history=run.history(),
        readers_see=pointer.run_id if pointer else "",
    )


def _notes(run: Run) -> list[str]:
    historical = [HISTORICAL_NOTE] if run.lease.historical else []
    drifted = [f"{run.drifted:,} rows, counts or files had drifted: see docs/incremental.md."] if run.drifted else []
    return historical + drifted


def _written(written: Mapping[str, TablePlan] | Mapping[str, LoadCounts], name: str) -> dict[str, int]:
    return asdict(written[name]) if name in written else {}
