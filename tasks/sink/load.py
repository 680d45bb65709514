"""The last steps of the commit protocol: rows, deletes, rejects, aggregates and the ledger's commit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from adbc_driver_postgresql import dbapi

from tasks.errors import ProofFailed, WriteError
from tasks.ledger.lease import Lease
from tasks.ledger.ledger import Ledger
from tasks.platform.functions import Database, Transaction, open_database
from tasks.platform.postgres import connect, refusals, release
from tasks.retry import Retry
from tasks.settings import Settings
from tasks.sink.job import Job, commit
from tasks.sink.model import LoadCounts, Progress, TablePlan, deletes, silent
from tasks.sink.postgres import write_in_transaction
from tasks.sink.rest import write_over_rest
from tasks.workspace import Workspace

# Takes the transaction, and by table the keys that the database refused.
Verify = Callable[[Database, Mapping[str, list[str]]], None]


def load(
    settings: Settings,
    workspace: Workspace,
    run: Lease,
    plans: Mapping[str, TablePlan],
    *,
    manifest_path: str,
    manifest_sha256: str,
    counts: Mapping[str, Any],
    progress: Progress = silent,
    verify: Verify | None = None,
) -> dict[str, LoadCounts]:
    """Write what `plan` spooled, and commit the run. Can be called again after any failure that left it its lease.

    Over Postgres one transaction: a failure leaves nothing. Over REST rows change batch by batch while the ledger says
    `loading`, and the commit is one transaction; the next run puts right what a failure left. plans: what `plan`
    returned; the rows in the run's folder must be so many. counts: the run's figures for the ledger; `written`, the
    counts that this returns, is added to them. A historical run only commits. progress: rows written, and how many
    there are to write.
    Raises LeaseLost, WriteError (more rows refused than `max_refused_share` allows), or what the database said.
    verify: what must hold after the writing, asked before the commit where all of it is one transaction; it raises.
    """
    facts = {"manifest_path": manifest_path, "manifest_sha256": manifest_sha256, "counts": dict(counts)}
    job = Job(settings, workspace, run, {} if run.historical else plans, facts, progress)
    _require_whole_spools(job)
    if settings.resolved_transport == "postgres":
        again = lambda error: isinstance(error, ProofFailed)  # noqa: E731
        return Retry.of(settings).call(lambda: _load_at_once(job, verify), "The load", give_up=again)
    with open_database(settings) as database:
        _begin(database, job)
        return commit(database, job, write_over_rest(database, job))


def _require_whole_spools(job: Job) -> None:
    """WriteError when the rows in the run's folder are not those that the plan counted: nothing was written yet."""
    for table in job.tables:
        planned = job.plans[table.name]
        rows = (job.rows_to_write(table).rows(), deletes(job.workspace, table).rows())
        wanted = (planned.inserts + planned.updates + planned.restamped, planned.deletes)
        if rows != wanted:
            raise WriteError(
                f"{table.name}: the run's folder holds {rows[0]:,} rows to write and {rows[1]:,} keys to delete, and "
                f"{wanted[0]:,} and {wanted[1]:,} were planned. No row changed.",
                remedy="Start the run again, and see what else changes files below ETL_DATA_DIR.",
            )


def _begin(database: Database, job: Job) -> None:
    database.call("etl_stage", **job.lease, p_stage="load", p_figures={})


def _load_at_once(job: Job, verify: Verify | None) -> dict[str, LoadCounts]:
    """The load in one transaction. The ledger is asked first: an earlier try may have committed unheard."""
    if (counts := _committed(job)) is not None:
        return counts
    job.done = 0
    connection = connect(job.settings, autocommit=False)
    try:
        transaction = Transaction(connection)
        _begin(transaction, job)
        _commit(connection)
        written = write_in_transaction(transaction, job)
        counts = commit(transaction, job, written)
        if verify:
            verify(transaction, {name: [str(row["key"]) for row in of.refused] for name, of in written.items()})
        _commit(connection)
        return counts
    finally:
        release(connection)  # what was not committed is rolled back with it


def _commit(connection: dbapi.Connection) -> None:
    with refusals():
        connection.commit()


def _committed(job: Job) -> dict[str, LoadCounts] | None:
    """The counts of the run when the ledger says that it is committed already; None when it is not."""
    with open_database(job.settings) as database:
        row = Ledger(database, job.settings).run(job.run.run_id)
    if row is None or row["status"] != "committed":
        return None
    return {name: LoadCounts(**counts) for name, counts in row["counts"]["written"].items()}
