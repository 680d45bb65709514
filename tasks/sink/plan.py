"""What a run would write: the cleaned rows against those in the database, merged in key order by their hashes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass

import pyarrow as pa

from tasks.contracts import TABLES, Table
from tasks.ledger import Run
from tasks.settings import Settings
from tasks.sink.merge import Difference, merge
from tasks.sink.model import (
    ID_SCHEMA,
    Progress,
    TablePlan,
    changes,
    deletes,
    reject_changes,
    reject_deletes,
    silent,
)
from tasks.sink.rejects import sorted_rejects
from tasks.sink.target import Target, open_target
from tasks.workspace import Spool, Workspace


def plan(
    settings: Settings, workspace: Workspace, run: Run | None = None, *, progress: Progress = silent
) -> dict[str, TablePlan]:
    """Compare the run's rows with the database's, and spool the differences for `load`. Writes nothing to the database.

    Returns the counts per table. Spools: changes/<table>, deletes/<table>, reject_changes/<table>,
    reject_deletes/<table>. run: None for a dry run, which has no lease; a historical run changes no table, so its
    counts are zeros. progress: rows compared, all tables together, and how many there are.
    """
    if run is not None and run.historical:
        return {table.name: TablePlan(0, 0, 0, 0, 0) for table in TABLES}
    cleaned = {table.name: workspace.spool("clean", table.name, table.clean_schema) for table in TABLES}
    total = sum(spool.rows() for spool in cleaned.values())
    tally = _Progress(progress, total)
    with open_target(settings) as target:
        plans = {t.name: _plan_rows(target, workspace, t, cleaned[t.name], tally) for t in TABLES}
        for table in TABLES:
            _plan_rejects(target, workspace, table)
    workspace.note(plan={name: asdict(counts) for name, counts in plans.items()})
    return plans


def _plan_rows(target: Target, workspace: Workspace, table: Table, cleaned: Spool, tally: _Progress) -> TablePlan:
    counts = TablePlan(0, 0, 0, 0, 0)
    with closing(target.rows(table)) as theirs:
        differences = merge(cleaned.batches(), theirs)
        for difference in _spooled(differences, changes(workspace, table), deletes(workspace, table)):
            counts = _add(counts, difference)
            tally.add(difference.batch.num_rows if difference.batch else 0)
    return counts


def _plan_rejects(target: Target, workspace: Workspace, table: Table) -> None:
    with closing(target.rejects(table)) as theirs:
        differences = merge(sorted_rejects(workspace, table), theirs)
        for _ in _spooled(differences, reject_changes(workspace, table), reject_deletes(workspace, table)):
            pass


def _spooled(differences: Iterator[Difference], changed: Spool, gone: Spool) -> Iterator[Difference]:
    """The differences as they pass, each left in the spools; what an earlier try left there goes first."""
    changed.clear()
    gone.clear()
    for index, difference in enumerate(differences):
        if difference.batch is not None and difference.inserts + difference.updates:
            rows = difference.batch.filter(difference.changed).select(changed.schema.names)
            changed.write(index, [rows.cast(changed.schema)])
        if len(difference.gone):
            ids = difference.gone.cast(pa.string())
            gone.write(index, [pa.RecordBatch.from_arrays([ids], schema=ID_SCHEMA)])
        yield difference


def _add(counts: TablePlan, difference: Difference) -> TablePlan:
    return TablePlan(
        inserts=counts.inserts + difference.inserts,
        updates=counts.updates + difference.updates,
        deletes=counts.deletes + len(difference.gone),
        unchanged=counts.unchanged + difference.unchanged,
        target_rows=counts.target_rows + difference.target_rows,
    )


@dataclass
class _Progress:
    """Rows seen so far, of all tables."""

    report: Progress
    total: int
    done: int = 0

    def add(self, rows: int) -> None:
        self.done += rows
        self.report(self.done, self.total)
