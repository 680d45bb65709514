"""What the database holds already, streamed as (key, hash) in key order, a page a call."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tasks.contracts import ARROW_TYPES, Table
from tasks.errors import ServiceUnavailable
from tasks.platform.functions import Database
from tasks.retry import is_statement_timeout
from tasks.sink.merge import STAMPED, STREAM

# A page over REST is a value of under 2 MiB: one larger than the server's work_mem (2 MiB on the smallest project)
# is written to its disk before it is sent.
ANSWER_ROWS = 15_000
_LEAST_ROWS = 100
Stream = Generator[pa.RecordBatch, None, None]


class TargetReader:
    """The project's own tables, read in pages by one client. Close a stream before the next one is opened."""

    def __init__(self, database: Database, page_rows: int) -> None:
        self._database, self._page_rows = database, page_rows

    def rows(self, table: Table) -> Stream:
        """The cleaned table's `id`, `row_hash`, `fingerprint` and `rule_mask` in key order, a batch at a time."""
        after = ""
        while True:
            page = self._page("etl_target_page", table, after)
            if not page["rows"]:
                return
            ids = _split(page["ids"])
            after = ids[-1].as_py()
            stamps = (_integers(page["fingerprints"]), _integers(page["masks"]))
            yield stamped(ids.cast(ARROW_TYPES[table.key.kind]), _split(page["hashes"]), *stamps)

    def rejects(self, table: Table) -> Stream:
        """The rejects of the rules, as `id` (key, U+001F, rule) and a hash of the rest, by id."""
        after = ""
        while True:
            page = self._page("etl_rejects_page", table, after)
            if not page["ids"]:
                return
            after = page["ids"][-1]
            texts = [pa.array(page[name], pa.string()) for name in ("ids", "hashes")]
            yield pa.RecordBatch.from_arrays(texts, names=list(STREAM))

    def _page(self, function: str, table: Table, after: str) -> Any:
        """A page of at most `_page_rows` rows, which are halved for good where the statement timeout ends it."""
        while True:
            last = self._page_rows <= _LEAST_ROWS
            try:
                return self._database.call(
                    function,
                    give_up=None if last else is_statement_timeout,
                    p_table=table.name,
                    p_after=after,
                    p_limit=self._page_rows,
                )
            except ServiceUnavailable as error:
                if last or not is_statement_timeout(error):
                    raise
                self._page_rows = max(_LEAST_ROWS, self._page_rows // 2)


def _split(joined: str) -> pa.Array:
    return pc.split_pattern(pa.array([joined]), ",").flatten()


def _integers(joined: str) -> pa.Array:
    """Whole numbers joined by commas; an empty one is null."""
    texts = _split(joined)
    return pc.if_else(pc.equal(texts, ""), pa.scalar(None, pa.string()), texts).cast(pa.int64())


def stamped(ids: pa.Array, hashes: pa.Array, fingerprints: pa.Array, masks: pa.Array) -> pa.RecordBatch:
    """A batch of what is compared of a cleaned table."""
    return pa.RecordBatch.from_arrays([ids, hashes, fingerprints, masks], names=list(STAMPED))
