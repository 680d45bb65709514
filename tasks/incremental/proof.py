"""The nightly proof: what was not touched is the same at the source and as it is stored, by count and fingerprints."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from tasks.contracts import TABLES, Table
from tasks.errors import ProofFailed, ServiceUnavailable
from tasks.incremental.gather import Touched
from tasks.incremental.known import is_refused
from tasks.incremental.mode import GoFull
from tasks.platform.functions import Database
from tasks.retry import is_statement_timeout
from tasks.sink.sink import Verify
from tasks.source.changes import WHOLE
from tasks.source.fingerprint import sum_of

if TYPE_CHECKING:
    from tasks.incremental.night import IncrementalNight

logger = logging.getLogger(__name__)


def require_proof(touched: Touched, known: pa.Table) -> None:
    """GoFull unless the untouched rows have the same count and the same sum of fingerprints on both sides.

    Both sides were summed where the changes were found, each key range in one statement. A touched row that was not
    listed is a dependent: its fingerprint at the source is the stored one. known: as stored, of touched rows.
    """
    found, changes = touched.changes.fingerprints, touched.changes
    stored = stored_fingerprints(known)
    listed = pc.is_in(known["key"], value_set=pa.array(list(found), pa.string())).combine_chunks()
    dependents = stored.filter(pc.invert(listed))
    listed_there = [fingerprint for fingerprint in found.values() if fingerprint is not None]
    source = (
        changes.source_rows - len(listed_there) - len(dependents),
        (changes.source_sum - sum(listed_there) - sum_of(dependents)) % WHOLE,
    )
    trusted = stored.filter(pc.invert(is_refused(known)))
    there = (changes.known_rows - len(trusted), (changes.known_sum - sum_of(trusted)) % WHOLE)
    if source != there:
        raise GoFull(
            f"{touched.table.name} at the source and as stored do not agree: {source[0]:,} and {there[0]:,} untouched "
            "rows" + ("" if source[0] != there[0] else " of other fingerprints")
        )


def stored_fingerprints(known: pa.Table) -> pa.Array:
    """The fingerprint of each row as it is known: that of its reject, where it has one; null for a refused row."""
    rejected = known["rule"].is_valid()
    return pc.if_else(rejected, known["reject_fingerprint"], known["fingerprint"]).combine_chunks()


def verify_known(night: IncrementalNight) -> Verify:
    """After the load, before its commit: what is stored has the count and the fingerprints that it must have.

    Raises ProofFailed, which starts the run again; the base is distrusted then, so that it reads everything. Over REST
    the rows that the database refused are noted by the commit: until then their earlier versions count.
    """

    def verify(database: Database, refused: Mapping[str, list[str]], *, in_transaction: bool) -> None:
        for table in TABLES:
            stored = _Stored(night.touched(table), night.known[table.name], refused.get(table.name, []))
            wanted = stored.expected(None if in_transaction else _kept(night, table))
            try:
                found = database.call("etl_known_sum", give_up=is_statement_timeout, p_table=table.name)
            except ServiceUnavailable as error:
                if in_transaction or not is_statement_timeout(error):  # a transaction has failed with its statement
                    raise
                logger.warning("%s is not verified after the load: the database takes too long.", table.name)
                continue
            if wanted != (int(found["rows"]), int(found["sum"]) % WHOLE):
                raise ProofFailed(
                    f"{table.name}: after the load {int(found['rows']):,} rows are stored, {wanted[0]:,} were expected"
                    f"{'' if wanted[0] != int(found['rows']) else ', of other fingerprints'}. It was not committed."
                )

    return verify


def _kept(night: IncrementalNight, table: Table) -> pa.Array:
    """Keys of the rows that were read and that no rule rejected, as text."""
    keys = [batch[table.key.name].cast(pa.string()) for batch in night.workspace.clean(table).batches()]
    return pa.concat_arrays([pa.array([], pa.string()), *keys])


@dataclass(frozen=True)
class _Stored:
    """What must be stored of a table. known: its touched rows as they were. refused: keys refused at this load."""

    touched: Touched
    known: pa.Table
    refused: list[str]

    def expected(self, kept: pa.Array | None) -> tuple[int, int]:
        """Rows and sum of fingerprints. kept: given where the refused rows are not noted yet."""
        trusted = self.known.filter(pc.invert(is_refused(self.known)))
        counted = [self._read(kept)] if kept is None else [self._read(kept), self._left()]
        total = self.touched.changes.known_sum - sum_of(stored_fingerprints(trusted)) + sum(map(sum_of, counted))
        return self.touched.changes.known_rows - trusted.num_rows + sum(map(len, counted)), total % WHOLE

    def _read(self, kept: pa.Array | None) -> pa.Array:
        """Fingerprints of the rows that were read and count: not those refused now, nor kept ones still noted so."""
        rows = self.touched.rows
        keys = rows[self.touched.table.key.name].cast(pa.string()).combine_chunks()
        out = pc.is_in(keys, value_set=pa.array(self.refused, pa.string()))
        if kept is not None:
            before = self.known["key"].filter(is_refused(self.known)).combine_chunks()
            out = pc.or_(out, pc.and_(pc.is_in(keys, value_set=before), pc.is_in(keys, value_set=kept)))
        return rows["_fingerprint"].combine_chunks().filter(pc.invert(out))

    def _left(self) -> pa.Array:
        """Fingerprints of earlier versions that stay, since the new one was refused."""
        refused = pc.is_in(self.known["key"], value_set=pa.array(self.refused, pa.string()))
        cleaned_before = self.known.filter(pc.and_(refused, self.known["rule"].is_null()))
        return cleaned_before["fingerprint"].combine_chunks()
