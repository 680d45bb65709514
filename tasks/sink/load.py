"""The last steps of the commit protocol: rows, deletes, rejects, aggregates and the ledger's commit."""

from __future__ import annotations

from collections.abc import Mapping

from tasks.errors import LeaseLost, PipelineError, WriteError, report_of
from tasks.files.manifest import ManifestRef
from tasks.ledger.lease import Lease
from tasks.platform.progress import Progress, no_progress
from tasks.reports.figures import RunCounts
from tasks.settings import Settings
from tasks.sink.chosen import sink_of
from tasks.sink.job import LoadJob
from tasks.sink.model import LoadCounts, TablePlan, deletes
from tasks.sink.sink import Sink, Verify
from tasks.workspace import Workspace

_NOT_KNOWN = (
    "All files, and perhaps all rows and the commit: the database was asked for it, and did not answer. The next start "
    "moves `latest.json` to this run where it is committed, and else writes what is missing."
)
_NOT_KNOWN_OF_PAST = (
    "All files, and perhaps the commit: the database was asked for it, and did not answer. The ledger (`etl_runs`) "
    "says whether it has. A run for a past instant writes no row and does not move `latest.json`."
)


def load(
    settings: Settings,
    workspace: Workspace,
    run: Lease,
    plans: Mapping[str, TablePlan],
    *,
    manifest: ManifestRef,
    counts: RunCounts,
    progress: Progress = no_progress,
    verify: Verify | None = None,
) -> dict[str, LoadCounts]:
    """Write what `plan` spooled, and commit the run. Can be called again after any failure that left it its lease.

    Over Postgres one transaction: a failure leaves nothing. Over REST rows change batch by batch while the ledger says
    `loading`, and the commit is one transaction; the next run puts right what a failure left. plans: what `plan`
    returned; the rows in the run's folder must be so many. counts: the run's figures for the ledger; `written`, the
    counts that this returns, is added to them. A historical run only commits. progress: rows written, and how many
    there are to write.
    Raises LeaseLost, WriteError (more rows refused than `max_refused_share` allows), or what the database said.
    verify: what must hold after the writing, asked before the commit; it raises.
    """
    job = LoadJob(settings, workspace, run, {} if run.historical else plans, manifest, counts, progress)
    _require_whole_spools(job)
    sink = sink_of(settings)
    try:
        return sink.retried(lambda: _load_once(sink, job, verify))
    except (PipelineError, KeyboardInterrupt) as error:  # of whatever was asked last: the ledger, or a connection
        if job.may_be_committed:
            report_of(error).written = _NOT_KNOWN_OF_PAST if run.historical else _NOT_KNOWN
        raise


def _load_once(sink: Sink, job: LoadJob, verify: Verify | None) -> dict[str, LoadCounts]:
    """One try, unless an earlier one has committed. What that one sent may be carried out while this one begins."""
    if (counts := sink.committed(job)) is not None:
        return counts
    job.done = 0
    try:
        with sink.open(job) as loading:
            job.may_be_committed = False  # the lease is still ours, so what was sent before is not carried out any more
            return loading.commit(loading.write(), verify)
    except LeaseLost:
        if (counts := sink.committed(job)) is not None:
            return counts
        raise


def _require_whole_spools(job: LoadJob) -> None:
    """WriteError when the rows in the run's folder are not those that the plan counted: nothing was written yet."""
    for table in job.tables:
        rows = (job.rows_to_write(table).rows(), deletes(job.workspace, table).rows())
        wanted = (job.to_write(table), job.plans[table.name].deletes)
        if rows != wanted:
            raise WriteError(
                f"{table.name}: the run's folder holds {rows[0]:,} rows to write and {rows[1]:,} keys to delete, and "
                f"{wanted[0]:,} and {wanted[1]:,} were planned. No row changed.",
                remedy="Start the run again, and see what else changes files below ETL_DATA_DIR.",
            )
