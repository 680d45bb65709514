"""Back to an earlier committed run: its aggregates in Postgres, and `latest.json`.

The cleaned tables hold the current rows and are not touched; neither are files. The next run starts from the last one
that was committed, as it would have without.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.contracts import REPORTS, Report
from tasks.errors import ChoiceError, PipelineError, PublishError, report_of
from tasks.files.layout import day_of
from tasks.files.manifest import Manifest, ManifestRef
from tasks.files.published import NotAsPublished, read_manifest, read_verified
from tasks.files.stored import verify_content, verify_stored
from tasks.ledger.as_of import AsOf
from tasks.ledger.ledger import Ledger, Start, unrecorded_end_logged
from tasks.ledger.row import LedgerRow
from tasks.platform.bucket import Bucket
from tasks.platform.functions import Json, open_database
from tasks.publish.pointer import current_pointer, repair_pointer
from tasks.publish.retention import run_ids
from tasks.settings import Settings
from tasks.sink.job import aggregates_json

_AT_ONCE = "Ledger and aggregates in Postgres were moved together or not at all; `latest.json` was not."


@dataclass(frozen=True, slots=True)
class _EarlierRun:
    run_id: str
    as_of: datetime
    manifest: ManifestRef


@dataclass(frozen=True, slots=True)
class Restored:
    """The outcome of a restore. rows: by aggregate; pointer_moved: whether latest.json named another run before."""

    run_id: str
    as_of: datetime
    manifest_path: str
    rows: dict[str, int]
    pointer_moved: bool


def restore(settings: Settings, run_id: str, *, dry_run: bool = False) -> Restored:
    """Make an earlier committed run the current one. dry_run: verify its files, and change nothing.

    The aggregates in Postgres become that run's, and statistics of a later as_of go; the ledger notes who did it and
    when. Raises ChoiceError for a run that was never current, PublishError when its files are gone or damaged,
    LeaseHeld while a run is running, and longer than ETL_WAIT_FOR_LEASE allows.
    """
    with open_database(settings) as database:
        ledger = Ledger(database, settings)
        target = _target(settings, ledger, run_id)
        try:
            reports = _published(settings, target.manifest)
        except NotAsPublished as problem:
            raise _refusal(problem, _others(settings, ledger, target)) from None
        moved = False
        if not dry_run:
            _restore(ledger, settings, target, aggregates_json(reports))
            with _says(f"Ledger and aggregates in Postgres are those of {run_id}; `latest.json` may not be yet."):
                moved = _point(ledger, settings, target)
    rows = {report.name: table.num_rows for report, table in reports}
    return Restored(run_id, target.as_of, target.manifest.path, rows, moved)


@contextmanager
def _says(written: str) -> Iterator[None]:
    """An error or a signal that ends the block, and does not know what was written, says this."""
    try:
        yield
    except (PipelineError, KeyboardInterrupt) as error:
        report = report_of(error)
        report.written = report.written or written
        raise


def _target(settings: Settings, ledger: Ledger, run_id: str) -> _EarlierRun:
    target = ledger.run(run_id)
    was_current = target and target.status == "committed" and target.kind == "run" and not target.historical
    if target and was_current and target.as_of and target.manifest:
        return _EarlierRun(target.run_id, target.as_of, target.manifest)
    known = ", ".join(run.run_id for run in restorable(settings, ledger, 10))
    raise ChoiceError(
        f"{run_id} is not a committed run that was ever current. Nothing was changed.",
        remedy=f"The newest that can be restored are {known}: give one of them."
        if known
        else f"None has its files in the bucket {settings.bucket}: start `nightly`.",
    )


def restorable(settings: Settings, ledger: Ledger, newest: int) -> list[LedgerRow]:
    """Those of the newest runs that were ever current whose files are in the bucket: it may be another one since."""
    runs = ledger.runs(newest, status="committed", kind="run", historical=False)
    there = run_ids(settings, {day_of(run.as_of) for run in runs if run.as_of})
    return [run for run in runs if run.run_id in there]


def _restore(ledger: Ledger, settings: Settings, target: _EarlierRun, aggregates: Json) -> None:
    as_of, wait = AsOf.instant(target.as_of), settings.lease_wait(scheduled=False)
    start = Start(as_of, settings.resolved_transport, historical=True, kind="restore", wait=wait)
    with ledger.given_back_when_interrupted(start.ticket):
        run = ledger.start(start)
        try:
            with ledger.holding(run), _says(_AT_ONCE):
                ledger.restore(run, target.run_id, aggregates)
        except Exception as error:
            with unrecorded_end_logged():
                ledger.fail(run, error)
            raise


def _point(ledger: Ledger, settings: Settings, target: _EarlierRun) -> bool:
    """Move latest.json; True when it named another run. PublishError when it does not name the restored run after it.

    A run that was committed since the restore is the one that readers see.
    """
    current = ledger.current()
    moved = repair_pointer(settings, current.manifest if current else None)
    with Bucket(settings) as bucket:
        pointer = current_pointer(bucket)
    if current and current.run_id == target.run_id and (not pointer or pointer.manifest != target.manifest.path):
        error = PublishError(
            f"{target.manifest.path} went from the bucket during the restore: readers still see the run before.",
            remedy="Restore another run, or start a `nightly`: either brings all of them together again.",
        )
        error.written = f"Ledger and aggregates in Postgres are those of {target.run_id}; `latest.json` did not move."
        raise error
    return moved


def _published(settings: Settings, ref: ManifestRef) -> list[tuple[Report, pa.Table]]:
    """The run's aggregates from its published files, each verified by its checksum. All others must be there, too."""
    with Bucket(settings) as bucket:
        manifest = read_manifest(bucket, ref)
        verify_stored(settings, manifest.run, manifest.files)
        verify_content(settings, manifest.run, manifest.files)
        return [(r, _read(bucket, manifest, r)) for r in REPORTS if r.in_postgres]


def _others(settings: Settings, ledger: Ledger, target: _EarlierRun) -> str:
    """Which of the newest runs can be restored in its place. In another bucket than before there may be none."""
    current = ledger.current()
    not_these = {target.run_id, current and current.run_id}
    known = ", ".join(run.run_id for run in restorable(settings, ledger, 10) if run.run_id not in not_these)
    return f"Restore another run: {known}." if known else f"No other run has its files in the bucket {settings.bucket}."


def _refusal(problem: NotAsPublished, remedy: str) -> PublishError:
    if problem.pruned is None or problem.pruned.removed is None:
        return PublishError(f"{problem}. Nothing was changed.", remedy=remedy)
    day = problem.pruned.removed.at.date()
    return PublishError(
        f"{problem.pruned.run_id} was pruned by retention on {day}: its files that name user ids are gone, so readers "
        "cannot get it complete again. Nothing was changed.",
        remedy="Restore a run that is younger than ETL_KEEP_DAYS days.",
    )


def _read(bucket: Bucket, manifest: Manifest, report: Report) -> pa.Table:
    path = f"reports/{report.name}.parquet"
    entry = manifest.file(path)
    if entry is None:
        raise PublishError(f"{manifest.run} has no {path}. Nothing was changed.", remedy="Restore another run.")
    body = read_verified(bucket, f"{manifest.run}/{path}", entry.sha256)
    return _conform(pq.read_table(pa.BufferReader(body)), report.schema)


def _conform(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The table as the current contract has it: a column that was added later is null."""
    rows = table.num_rows
    columns = [table[f.name].cast(f.type) if f.name in table.schema.names else pa.nulls(rows, f.type) for f in schema]
    return pa.Table.from_arrays(columns, names=schema.names)
