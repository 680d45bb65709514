"""The stages of an incremental night that a full one does not have, and the choice between the two."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

from flows.engine.progress import Meter
from flows.engine.run import Run
from flows.engine.stage import stage
from tasks.arrow.ahead import beside
from tasks.cleaning.counts import CleanCounts
from tasks.cleaning.partials import to_micros
from tasks.cleaning.rules.common import GRACE
from tasks.cleaning.user_index import UserIndex
from tasks.contracts import TABLES
from tasks.errors import FileLost
from tasks.files.layout import run_path
from tasks.files.manifest import FileEntry
from tasks.incremental.audit import Audit, mark_wrong
from tasks.incremental.base import Base, load_base, missing_files, without_file
from tasks.incremental.gather import Gathered, gather
from tasks.incremental.mode import GoFull, Mode, Night, base_facts, choose_mode, is_comparable
from tasks.incremental.night import IncrementalNight
from tasks.incremental.store import keep_files
from tasks.publish.upload import storing
from tasks.reports.figures import RunCounts
from tasks.sink import TablePlan
from tasks.source import Preflight
from tasks.source.snapshot import SnapshotLost

logger = logging.getLogger(__name__)
_SNAPSHOTS = 3  # tries, when the one that holds the instant is lost


@stage("Find changes")
def find_changes(run: Run, progress: Meter, sources: Preflight) -> bool:
    """Decide whether this night is incremental, and if so read what changed. False: the night reads everything."""
    base = load_base(run.database, run.settings)
    run.seed = str(run.database.call("etl_seed_id"))
    night = Night(run.request.full_refresh, run.lease.historical, sources, sources.clock)
    run.mode, run.sources = choose_mode(night, base, run.settings), sources
    run.comparable = base if base and is_comparable(night, base, run.settings) else None
    if base := run.mode.base:
        _try(run, partial(_read, run, base, progress))
    if run.night is None:
        _require_own_reading(run)
    run.workspace.note(mode=run.mode.name, seed=run.seed)
    run.record(mode=run.mode.name, **({"because": run.mode.because} if run.mode.because else {}))
    return run.night is not None


@stage("Merge with the last run")
def merge_with_base(run: Run, progress: Meter, users: CleanCounts, posts: CleanCounts) -> bool:
    """Files, partial tables and counts from the base's and the changes. False: the night has to read everything."""
    if run.night is not None:
        _try(run, partial(run.night.merge, run.database.call, workers=run.workers))
    if run.night is not None:
        run.record(files=len(run.night.entries), copied=len(run.night.copied))
    return run.night is not None


def _try(run: Run, work: Callable[[], None]) -> None:
    """Work of an incremental night; where the changes alone do not suffice, the night is full, and says why."""
    try:
        work()
    except GoFull as reason:
        _go_full(run, str(reason))
    except FileLost as lost:
        go_full_without(run, lost)


def go_full_without(run: Run, lost: FileLost) -> None:
    """The night reads everything: a file of the last run is not there. Nothing but files that were taken back is
    written until these are verified, and what the night made of them is made again."""
    run.has_stored = bool(lost.written)  # where they could not be taken back
    _go_full(run, without_file(lost.problem))


def _go_full(run: Run, because: str) -> None:
    logger.info("This night reads everything, because %s.", because)
    run.mode, run.night, run.not_read = Mode(None, because), None, {}
    run.workspace.note(mode=run.mode.name)  # what is read from here on can be resumed


def _read(run: Run, base: Base, progress: Meter) -> None:
    """What changed, in the run's folder; `run.night` when everything about it is known."""
    night = IncrementalNight(run.settings, run.workspace, base, to_micros(run.as_of))
    with beside(partial(_index_of_base, night)) as index:  # Storage answers while the database compares
        gathered = _gather(run, base, index.result)
    night.index = index.result()
    night.keep_raw(gathered)
    night.load_known(run.database.call)
    run.night = night
    run.rows = {of.table.name: of.rows.num_rows for of in gathered.tables}
    # How far the columns are filled is known of a whole read only; a column that comes or goes makes the night full.
    run.workspace.note(columns=base.counts.columns)
    run.not_read = night.not_read()
    rows = sum(run.rows.values())
    progress(rows, rows)
    run.record(rows=rows, rounds=gathered.rounds, rows_not_read=run.not_read["rows"])


def _index_of_base(night: IncrementalNight) -> UserIndex:
    """The base's kept users. GoFull when a file of the base is not there as its manifest says."""
    if missing := missing_files(night.base, night.settings):
        raise GoFull(missing)
    return night.base_index()


def _gather(run: Run, base: Base, index: Callable[[], UserIndex]) -> Gathered:
    """Over Postgres all of it in one snapshot; where that is lost, again from the start in another one."""
    finder = run.source.changes()
    try:
        for _ in range(_SNAPSHOTS):
            try:
                return gather(
                    finder,
                    index,
                    latest=to_micros(run.snapshot_at) + GRACE,
                    most_share=run.settings.max_changed_share,
                    base_rows={name: of.read for name, of in base.counts.tables.items()},
                )
            except SnapshotLost:
                finder.end()
    finally:
        finder.end()
    raise GoFull("the snapshot in which changes are found was lost again and again")


def _require_own_reading(run: Run) -> None:
    """A reading that an earlier start left belongs to its seed: other fingerprints would mark all as changed."""
    if run.workspace.facts().get("seed") not in (None, run.seed):
        for table in TABLES:
            run.workspace.raw(table).clear()


@contextmanager
def stored_ahead(run: Run) -> Iterator[None]:
    """Storage takes the cleaned tables while the block builds reports; an error of the block takes them back.

    FileLost when one that is copied from the last run is gone or damaged: its row in Storage does not say so.
    """
    night = run.night
    if night is None or run.request.dry_run:
        yield
        return
    path = run_path(run.lease.run_id, run.as_of)
    with storing(run.settings, run.workspace, path, night.entries, night.sources()):
        yield
    run.has_stored = True


def changed_by_hand(run: Run) -> bool:
    """Whether a full night has found cleaned rows that somebody changed by hand: they differ from here on.

    It marks them, so it comes after the guard: a run that is held writes nothing. Nor does a dry run.
    """
    return run.audited is not None and not run.request.dry_run and _mark_wrong_rows(run) > 0


@stage("Verify stored rows")
def _mark_wrong_rows(run: Run, progress: Meter) -> int:
    for table in TABLES:
        for marked in mark_wrong(run.database, run.lease.evidence, table):
            run.marked += marked
    run.record(changed_by_hand=run.marked)
    return run.marked


def audit(run: Run, entries: list[FileEntry], plans: Mapping[str, TablePlan]) -> None:
    """Of a full night: how many rows, rule counts and files are not what incremental nights carried."""
    if run.audited is None:
        return
    run.drifted = Audit(run.workspace, run.audited, run.database.call, plans).drifted(entries)
    run.record(drifted=run.drifted)
    if run.drifted:
        logger.error(
            "%s rows, rule counts or files had drifted since run %s: what incremental nights carried is not what is "
            "there. Did somebody write to the pipeline's tables? docs/incremental.md says what else it may be. This "
            "run puts it right.",
            f"{run.drifted:,}",
            run.audited.run_id,
        )


def distrust_base(run: Run) -> None:
    """The next start reads everything: what was stored is not what was read."""
    run.database.call("etl_distrust_base", **run.lease.evidence)


def with_mode(run: Run, counts: RunCounts) -> RunCounts:
    """The figures, with what the ledger keeps of how the run read."""
    mode: dict[str, object] = {"mode": run.mode.name}
    if run.mode.base:
        mode |= {"base_run": run.mode.base.run_id, "not_read": run.not_read}
    else:
        mode |= {"full_because": run.mode.because}
        mode |= {} if run.drifted is None else {"drifted": run.drifted}
    return counts.model_copy(update=mode)


def mode_of_manifest(run: Run) -> dict[str, Any]:
    """What the manifest says of it, and what the next night compares itself with."""
    base = run.mode.base
    facts: dict[str, Any] = {"mode": run.mode.name, "full_because": run.mode.because or None}
    if base:
        facts["base_run"] = base.run_id
    if not run.lease.historical:
        before = base.facts if base else None
        last_full = before.last_full if before else run.snapshot_at
        row_bytes = before.row_bytes if before else run.row_bytes
        facts["base"] = base_facts(run.settings, run.sources, seed=run.seed, last_full=last_full, row_bytes=row_bytes)
    return facts


def keep_base(run: Run, entries: list[FileEntry]) -> None:
    """Keep the files that the next night starts from. A disk that does not take them costs a download, not the run."""
    if run.lease.historical:
        return
    try:
        keep_files(run.settings, entries, run.workspace.files, run.workspace.root / "base")
    except OSError as error:
        logger.warning("The files for the next night are not kept here: %s", type(error).__name__)
