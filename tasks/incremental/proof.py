"""The nightly proof: what was not touched is the same at the source and as it is stored, by count and fingerprints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from tasks.contracts import POSTS, USERS
from tasks.errors import ProofFailed
from tasks.incremental.gather import Touched
from tasks.incremental.mode import GoFull
from tasks.platform.functions import Database
from tasks.sink.model import REFUSED_RULE
from tasks.sink.sink import Verify
from tasks.source.changes import WHOLE
from tasks.source.fingerprint import sum_of

if TYPE_CHECKING:
    from tasks.incremental.night import IncrementalNight


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


def is_refused(known: pa.Table) -> pa.Array:
    return pc.fill_null(pc.equal(known["rule"], REFUSED_RULE), False).combine_chunks()


def verify_known(night: IncrementalNight) -> Verify:
    """After the load, in its transaction: what is stored has the count and the fingerprints of the source.

    Raises ServiceUnavailable, which starts the run again; the base is distrusted then, so that it reads everything.
    """

    def verify(database: Database, refused: Mapping[str, list[str]]) -> None:
        for table in (USERS, POSTS):
            wanted = _wanted(night.touched(table), night.known[table.name], refused.get(table.name, []))
            found = database.call("etl_known_sum", p_table=table.name)
            if wanted != (int(found["rows"]), int(found["sum"]) % WHOLE):
                raise ProofFailed(
                    f"{table.name}: after the load {int(found['rows']):,} rows are stored, {wanted[0]:,} were expected"
                    f"{'' if wanted[0] != int(found['rows']) else ', of other fingerprints'}. It was rolled back."
                )

    return verify


def _wanted(touched: Touched, known: pa.Table, refused: list[str]) -> tuple[int, int]:
    """Rows and sum of fingerprints as they are to be stored: those of the source without the refused rows."""
    trusted = known.filter(pc.invert(is_refused(known)))
    rows = touched.rows
    stored = rows.filter(
        pc.invert(pc.is_in(rows[touched.table.key.name].cast(pa.string()), value_set=pa.array(refused, pa.string())))
    )
    total = touched.changes.known_sum - sum_of(stored_fingerprints(trusted)) + sum_of(stored["_fingerprint"])
    return touched.changes.known_rows - trusted.num_rows + stored.num_rows, total % WHOLE
