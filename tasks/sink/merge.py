"""Two streams of (key, hash) in key order, merged a batch at a time: what is new, what differs, what is gone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from tasks.arrow.arrays import differs, whole, without

STREAM = ("id", "row_hash")
STAMPED = (*STREAM, "fingerprint", "rule_mask")


@dataclass(frozen=True, slots=True)
class Difference:
    """The result of one batch. `changed`: a mask over the batch; `gone`: keys of the target that are not in the run.

    `suspect`: rows whose hash differs although their fingerprint does not; None where there are no fingerprints.
    Rows whose hash is equal and whose fingerprint or rule mask is not are `changed` too, and count as unchanged.
    """

    batch: pa.RecordBatch | None
    changed: pa.Array
    gone: pa.Array
    inserts: int
    updates: int
    unchanged: int
    target_rows: int
    suspect: pa.Array | None = None

    @property
    def restamped(self) -> int:
        """Rows to write that are equal but for their stamps."""
        return int(self.changed.true_count) - self.inserts - self.updates


def merge(ours: Iterator[pa.RecordBatch], theirs: Iterator[pa.RecordBatch]) -> Iterator[Difference]:
    """Differences, batch by batch of `ours`, and at the end what the target has beyond them.

    Both streams have `id` and `row_hash` and are in key order; `theirs` has nothing else but columns that are compared
    too. At any time one batch of each is held.
    """
    target = _StoredRows(theirs)
    for batch in ours:
        if batch.num_rows:
            yield _compare(batch, target.up_to(batch["id"][-1]))
    for rest in target.rest():
        yield Difference(None, pa.array([], pa.bool_()), rest["id"], 0, 0, 0, rest.num_rows)


def _compare(batch: pa.RecordBatch, there: pa.Table) -> Difference:
    if there.num_rows == 0:
        everything = pa.repeat(True, batch.num_rows)
        return Difference(batch, everything, whole(there["id"]), batch.num_rows, 0, 0, 0)
    if whole(there["id"]).equals(batch["id"]):  # as most batches of most nights: nothing to look up
        return _same_keys(batch, there)
    place = pc.index_in(batch["id"], value_set=whole(there["id"]))
    is_new = pc.is_null(place)
    updated = pc.fill_null(pc.not_equal(batch["row_hash"], pc.take(whole(there["row_hash"]), place)), True)
    changed = pc.or_(updated, _other_stamps(batch, pc.take(there, place)))
    inserts, differing = is_new.true_count, updated.true_count
    return Difference(
        batch=batch,
        changed=changed,
        gone=whole(without(there["id"], batch["id"])),
        inserts=inserts,
        updates=differing - inserts,
        unchanged=batch.num_rows - differing,
        target_rows=there.num_rows,
        suspect=_suspect(batch, pc.take(there, place), updated),
    )


def _same_keys(batch: pa.RecordBatch, there: pa.Table) -> Difference:
    updated = pc.fill_null(pc.not_equal(batch["row_hash"], whole(there["row_hash"])), True)
    updates = updated.true_count
    changed = pc.or_(updated, _other_stamps(batch, there))
    suspect = _suspect(batch, there, updated)
    return Difference(batch, changed, batch["id"][:0], 0, updates, batch.num_rows - updates, there.num_rows, suspect)


def _suspect(batch: pa.RecordBatch, there: pa.Table, updated: pa.Array) -> pa.Array | None:
    if "fingerprint" not in there.schema.names:
        return None
    return pc.and_(updated, pc.fill_null(pc.equal(batch["fingerprint"], whole(there["fingerprint"])), False))


def _other_stamps(batch: pa.RecordBatch, there: pa.Table) -> pa.Array:
    """Rows whose columns beside `id` and `row_hash` differ; null equals null."""
    other = pa.repeat(False, batch.num_rows)
    for name in there.schema.names:
        if name not in STREAM:
            other = pc.or_(other, differs(batch[name], whole(there[name])))
    return other


class _StoredRows:
    """The rows that are stored, as a stream: handed out up to a key at a time."""

    def __init__(self, batches: Iterator[pa.RecordBatch]) -> None:
        self._batches = batches
        self._held: pa.RecordBatch | None = None

    def up_to(self, key: pa.Scalar) -> pa.Table:
        """All rows not handed out yet whose key is at most `key`."""
        taken: list[pa.RecordBatch] = []
        while (batch := self._next()) is not None:
            count = pc.less_equal(batch["id"], key).true_count
            taken.append(batch.slice(0, count))
            if count < batch.num_rows:
                self._held = batch.slice(count)
                break
        return pa.Table.from_batches(taken) if taken else _empty(key.type)

    def rest(self) -> Iterator[pa.RecordBatch]:
        while (batch := self._next()) is not None:
            yield batch

    def _next(self) -> pa.RecordBatch | None:
        held, self._held = self._held, None
        if held is not None:
            return held
        return next((batch for batch in self._batches if batch.num_rows), None)


def _empty(kind: pa.DataType) -> pa.Table:
    return pa.schema([("id", kind), ("row_hash", pa.string())]).empty_table()
