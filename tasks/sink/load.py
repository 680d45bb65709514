"""The last steps of the commit protocol: rows, deletes, rejects, aggregates and the ledger's commit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adbc_driver_postgresql import dbapi

from tasks.errors import ServiceUnavailable
from tasks.ledger.ledger import Ledger, Run
from tasks.platform.functions import Database, Transaction, open_database
from tasks.platform.postgres import connect, refusals, release
from tasks.retry import Retry
from tasks.settings import Settings
from tasks.sink.job import Job, commit
from tasks.sink.model import LoadCounts, Progress, TablePlan, silent
from tasks.sink.postgres import write_in_transaction
from tasks.sink.rest import write_over_rest
from tasks.workspace import Workspace


def load(
    settings: Settings,
    workspace: Workspace,
    run: Run,
    *,
    manifest_path: str,
    manifest_sha256: str,
    counts: Mapping[str, Any],
    progress: Progress = silent,
) -> dict[str, LoadCounts]:
    """Write what `plan` spooled, and commit the run. Can be called again after any failure that did not end the lease.

    Over Postgres one transaction: a failure leaves nothing. Over REST rows change batch by batch while the ledger says
    `loading`, and the commit is one transaction; the next run puts right what a failure left. counts: the run's figures
    for the ledger; `written`, the counts that this returns, is added to them. A historical run only commits.
    Raises LeaseLost, WriteError (more rows refused than `max_refused_share` allows), or what the database said.
    progress: rows written, and how many there are to write.
    """
    facts = {"manifest_path": manifest_path, "manifest_sha256": manifest_sha256, "counts": dict(counts)}
    job = Job(settings, workspace, run, _plans(workspace, run), facts, progress)
    if settings.resolved_transport == "postgres":
        return Retry.of(settings).call(lambda: _load_at_once(job), "The load")
    with open_database(settings) as database:
        _begin(database, job)
        return commit(database, job, write_over_rest(database, job))


def _plans(workspace: Workspace, run: Run) -> dict[str, TablePlan]:
    if run.historical:
        return {}
    noted: Any = workspace.facts()["plan"]
    return {name: TablePlan(**counts) for name, counts in noted.items()}


def _begin(database: Database, job: Job) -> None:
    database.call("etl_stage", **job.lease, p_stage="load", p_figures={})


def _load_at_once(job: Job) -> dict[str, LoadCounts]:
    """The load in one transaction. If the connection breaks at the commit, the ledger tells whether it passed."""
    job.done = 0
    connection = connect(job.settings, autocommit=False)
    try:
        transaction = Transaction(connection)
        _begin(transaction, job)
        _commit(connection)
        counts = commit(transaction, job, write_in_transaction(transaction, job))
        try:
            _commit(connection)
        except ServiceUnavailable:
            if not _committed(job):
                raise
        return counts
    finally:
        release(connection)  # what was not committed is rolled back with it


def _commit(connection: dbapi.Connection) -> None:
    with refusals():
        connection.commit()


def _committed(job: Job) -> bool:
    with open_database(job.settings) as database:
        row = Ledger(database, job.settings).run(job.run.run_id)
    return row is not None and row["status"] == "committed"
