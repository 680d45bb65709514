"""What a run would write: the cleaned rows against those in the database, merged in key order by their hashes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from itertools import chain

import pyarrow as pa
import pyarrow.compute as pc

from tasks.contracts import TABLES, Table
from tasks.ledger.lease import Lease
from tasks.platform.progress import Progress, Running, no_progress
from tasks.settings import Settings
from tasks.sink.chosen import sink_of
from tasks.sink.merge import STAMPED, Difference, merge
from tasks.sink.model import ID_SCHEMA, TablePlan, changes, deletes, reject_changes, reject_deletes, suspects
from tasks.sink.rejects import sorted_rejects
from tasks.sink.target import TargetReader
from tasks.workspace import BatchRef, Spool, Workspace


def plan(
    settings: Settings, workspace: Workspace, run: Lease | None = None, *, progress: Progress = no_progress
) -> dict[str, TablePlan]:
    """Compare the run's rows with the database's, and spool the differences for `load`. Writes nothing to the database.

    Returns the counts per table. Spools: changes/<table>, deletes/<table>, reject_changes/<table>,
    reject_deletes/<table>. run: None for a dry run, which has no lease; a historical run changes no table, so its
    counts are zeros. progress: rows compared, all tables together, and how many there are.
    """
    if run is not None and run.historical:
        return {table.name: TablePlan(0, 0, 0, 0, 0) for table in TABLES}
    tally = Running(progress, sum(workspace.clean(table).rows() for table in TABLES))
    with sink_of(settings).compare() as target:
        plans = {table.name: _plan_rows(target, workspace, table, tally) for table in TABLES}
        for table in TABLES:
            _plan_rejects(target, workspace, table)
    return plans


def _plan_rows(target: TargetReader, workspace: Workspace, table: Table, tally: Running) -> TablePlan:
    ours, changed, gone = workspace.clean(table), changes(workspace, table), deletes(workspace, table)
    odd = suspects(workspace, table)
    for spool in (changed, gone, odd):
        spool.clear()
    with closing(target.rows(table)) as theirs:
        first = next(theirs, None)
        if first is None:  # then all is new, and needs no copy
            tally.add(ours.rows())
            return TablePlan(ours.rows(), 0, 0, 0, 0)
        counts = TablePlan(0, 0, 0, 0, 0)
        differences = _with_whole_rows(ours, chain([first], theirs))
        for number, difference in enumerate(_spooled(differences, changed, gone)):
            _keep_suspects(odd, number, difference, table)
            counts = _add(counts, difference)
            tally.add(difference.batch.num_rows if difference.batch else 0)
    return counts


def _keep_suspects(spool: Spool, number: int, difference: Difference, table: Table) -> None:
    """Rows that differ although their fingerprint is the stored one: something else changed, or should not have."""
    if difference.batch is None or difference.suspect is None or not difference.suspect.true_count:
        return
    rows = difference.batch.filter(difference.suspect)
    on = next((name for name in ("user_id", "duplicate_of") if name in table), None)
    depends = rows[on].cast(pa.string()) if on else pa.nulls(rows.num_rows, pa.string())
    ids = rows[table.key.name].cast(pa.string())
    spool.write(number, [pa.RecordBatch.from_arrays([ids, depends], schema=spool.schema)])


def _plan_rejects(target: TargetReader, workspace: Workspace, table: Table) -> None:
    changed, gone = reject_changes(workspace, table), reject_deletes(workspace, table)
    changed.clear()
    gone.clear()
    with closing(target.rejects(table)) as theirs:
        for _ in _spooled(merge(sorted_rejects(workspace, table), theirs), changed, gone):
            pass


def _with_whole_rows(ours: Spool, theirs: Iterator[pa.RecordBatch]) -> Iterator[Difference]:
    """The differences, found by keys and hashes alone; a batch is read whole only when some of its rows are to go."""
    read: list[BatchRef] = []
    names = [ours.schema.names[0], *STAMPED[1:]]  # the key, whatever the contract calls it

    def keys_and_hashes() -> Iterator[pa.RecordBatch]:
        for ref in ours.batch_refs():
            batch = ref.read(names).rename_columns(list(STAMPED))
            read[:] = [ref]  # of the batch that is compared next
            yield batch

    for difference in merge(keys_and_hashes(), theirs):
        goes = difference.batch is not None and pc.any(difference.changed).as_py()
        yield replace(difference, batch=read[0].read()) if goes else difference


def _spooled(differences: Iterator[Difference], changed: Spool, gone: Spool) -> Iterator[Difference]:
    """The differences as they pass, each left in the spools."""
    for index, difference in enumerate(differences):
        if difference.batch is not None and pc.any(difference.changed).as_py():
            rows = difference.batch.filter(difference.changed)
            changed.write(index, [rows.select(changed.schema.names).cast(changed.schema)])
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
        restamped=counts.restamped + difference.restamped,
    )
