"""What an incremental night writes: differences of the touched rows alone, with counts of the whole table."""

from __future__ import annotations

from dataclasses import asdict

import pyarrow as pa
import pyarrow.compute as pc

from tasks.arrow.arrays import differs, whole, without
from tasks.cleaning.counts import load_counts
from tasks.contracts import TABLES, Table
from tasks.incremental.night import IncrementalNight
from tasks.sink.model import ID_SCHEMA, REFUSED_RULE, TablePlan, changes, deletes, reject_changes, reject_deletes
from tasks.sink.rejects import sorted_rejects
from tasks.workspace import Spool


def plan_changes(night: IncrementalNight) -> dict[str, TablePlan]:
    """The spools that `load` writes from, and the plan of each table: figures of the table, not of the changes."""
    plans = {table.name: _plan_rows(night, table) for table in TABLES}
    for table in TABLES:
        _plan_rejects(night, table)
    night.workspace.note(plan={name: asdict(counts) for name, counts in plans.items()})
    return plans


def _plan_rows(night: IncrementalNight, table: Table) -> TablePlan:
    known, written = night.known[table.name], changes(night.workspace, table)
    written.clear()
    inserts = updates = written_rows = 0
    kept = [pa.array([], pa.string())]
    for index, batch in enumerate(night.workspace.clean(table).batches()):
        ids = batch[table.key.name].cast(pa.string())
        stored = known.take(pc.index_in(ids, value_set=known["key"].combine_chunks()))
        before = whole(stored["row_hash"])
        new, updated = before.is_null(), pc.fill_null(pc.not_equal(batch["row_hash"], before), False)
        changed = pc.or_(new, updated)
        for name in ("fingerprint", "rule_mask"):
            changed = pc.or_(changed, differs(batch[name], whole(stored[name])))
        if rows := changed.true_count:
            written_rows += rows
            written.write(index, [batch.filter(changed)] if rows < batch.num_rows else [batch])
        inserts, updates = inserts + new.true_count, updates + updated.true_count
        kept.append(ids)
    gone = _gone(night, table, pa.concat_arrays(kept))
    total = load_counts(night.workspace, table.name).kept
    target_rows = night.touched(table).changes.target_rows
    restamped = written_rows - inserts - updates
    return TablePlan(inserts, updates, gone, total - inserts - updates, target_rows, restamped)


def _gone(night: IncrementalNight, table: Table, kept: pa.Array) -> int:
    """Keys of cleaned rows that are not kept any more, left in their spool."""
    known = night.known[table.name]
    there = known.filter(known["row_hash"].is_valid())["key"].combine_chunks()
    gone = without(there, kept)
    _write_ids(deletes(night.workspace, table), gone)
    return len(gone)


def _plan_rejects(night: IncrementalNight, table: Table) -> None:
    """Rejects of the touched rows: all that are now (equal ones are not written), and ids of those that are no more."""
    spool, known = reject_changes(night.workspace, table), night.known[table.name]
    spool.clear()
    now = [pa.array([], pa.string())]
    for index, batch in enumerate(sorted_rejects(night.workspace, table)):
        now.append(batch["id"].cast(pa.string()))
        spool.write(index, [batch.select(spool.schema.names).cast(spool.schema)])
    of_rules = known.filter(pc.fill_null(pc.not_equal(known["rule"], REFUSED_RULE), False))
    gone = without(whole(of_rules["reject_id"]), pa.concat_arrays(now))
    _write_ids(reject_deletes(night.workspace, table), gone)


def _write_ids(spool: Spool, ids: pa.Array) -> None:
    spool.clear()
    if len(ids):
        spool.write(0, [pa.RecordBatch.from_arrays([ids], schema=ID_SCHEMA)])
