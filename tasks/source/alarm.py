"""The exact count as an alarm: where it differs from what was read, the range's keys are listed and accounted for.

Writers may be active all the time, so a difference alone means nothing. Every key that is listed must have been
read, be readable by its key, or be gone by then.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tasks.arrow.arrays import without
from tasks.contracts import ARROW_TYPES
from tasks.errors import ReadError
from tasks.platform.quoting import url_column
from tasks.retry import GiveUp, in_halves, is_statement_timeout
from tasks.source.api import KEYS_PER_REQUEST, Api, PageTooLarge
from tasks.source.convert import to_arrow
from tasks.source.model import TableInfo
from tasks.source.pages import keys_of_source, pages
from tasks.source.patch import Bounds, keys_of, patch_rows
from tasks.source.ranges import Key, KeyRange
from tasks.workspace import Spool

_LISTED_BYTES = 8 * 2**20
ROWS_PER_REQUEST = 1_000  # by key; they travel in the body
MOST_BYTES = 8 * 2**20
_ASKED = 3  # times that a listed key is asked for: a row may be deleted and inserted again in between
MOST_MISSING = 20_000  # more than this is no gap: the range is to be read again


class TooManyMissing(Exception):
    """So many keys of a range were not read that it is better read again."""


def verify_range(api: Api, info: TableInfo, within: KeyRange, spool: Spool, rows: int, bounds: Bounds) -> str:
    """Compare a range that was read with the exact count, and fix it where they differ.

    Returns what was found: `counted`, `not counted` (the server cannot count in time) or `listed`.
    ReadError when a listed key cannot be read.
    """
    total = api.count(info.table, within)
    if total is None or total == rows:
        return "not counted" if total is None else "counted"
    missing, extra = _differences(api, info, within, spool)
    found = _found_or_gone(api, info, missing)
    vanished = without(extra, fetch_by_keys(api, info, extra).column(0))
    patch_rows(spool, info.table.key.name, found, vanished, bounds)
    return "listed"


def fetch_by_keys(api: Api, info: TableInfo, keys: pa.Array) -> pa.Table:
    """The rows of these keys that exist now, in the raw schema."""
    name = f"{info.table.at_source}, rows asked for by key"
    parts = (keys[start : start + ROWS_PER_REQUEST].to_pylist() for start in range(0, len(keys), ROWS_PER_REQUEST))
    batches = [to_arrow(rows, info) for part in parts if (rows := _rows(api, info, sorted(part), name))]
    return pa.Table.from_batches(batches, schema=info.table.raw_schema)


def _rows(api: Api, info: TableInfo, keys: list[Key], name: str) -> list[Any]:
    """The rows of these keys; in halves where they are too many for one answer in time."""

    def send(part: list[Key], give_up: GiveUp | None) -> list[Any]:
        most = MOST_BYTES if give_up else None  # a single row is taken as it is
        return api.send(api.rows_among(info.table, part), name, most=most, halve=give_up is not None).rows

    return list(chain.from_iterable(in_halves(send, keys, _too_much)))


def _too_much(error: Exception) -> bool:
    return isinstance(error, PageTooLarge) or is_statement_timeout(error)


def _differences(api: Api, info: TableInfo, within: KeyRange, spool: Spool) -> tuple[pa.Array, pa.Array]:
    """Keys that are listed and were not read, and keys that were read and are not listed."""
    key = info.table.key
    kind, read = ARROW_TYPES[key.kind], keys_of(spool, within.index, key.name)
    pending, missing, extra = pa.array([], kind), [pa.array([], kind)], [pa.array([], kind)]
    for listed in _listed(api, info, within):
        while not len(pending) or pc.less(pending[-1], listed[-1]).as_py():
            following = next(read, None)
            if following is None:
                break
            pending = pa.concat_arrays([pending, following])
        here = pending.filter(pc.less_equal(pending, listed[-1]))
        pending = pending.slice(len(here))
        missing.append(without(listed, here))
        extra.append(without(here, listed))
        if sum(map(len, missing)) > MOST_MISSING:
            raise TooManyMissing
    return pa.concat_arrays(missing), pa.concat_arrays([*extra, pending, *read])


def _listed(api: Api, info: TableInfo, within: KeyRange) -> Iterator[pa.Array]:
    key = info.table.key

    def make(rows: list[Any]) -> pa.RecordBatch:
        return pa.RecordBatch.from_struct_array(pa.array(rows, pa.struct([(key.name, ARROW_TYPES[key.kind])])))

    ask = keys_of_source(api, info, within, _key_alone(info))
    for batch in pages(api, info, within, ask, make, _LISTED_BYTES):
        yield batch.column(0)


def _found_or_gone(api: Api, info: TableInfo, missing: pa.Array) -> pa.Table:
    """The rows of the missing keys; ReadError for keys that stay listed, but have no row to give."""
    found = info.table.raw_schema.empty_table()
    for _ in range(_ASKED):
        found = pa.concat_tables([found, fetch_by_keys(api, info, missing)])
        missing = _still_listed(api, info, without(missing, found.column(0)))
        if not len(missing):
            return found
    raise ReadError(
        f"{info.table.at_source}: {len(missing)} rows are listed by their keys but cannot be "
        "read. The read is not complete; nothing was published.",
        remedy="Start the run again; if it stays, look for a proxy or cache in front of the API.",
    )


def _still_listed(api: Api, info: TableInfo, keys: pa.Array) -> pa.Array:
    """Those of the keys that are listed. What the server's row cap cuts off an answer is asked for again."""
    table, listed = info.table, list[Key]()
    for start in range(0, len(keys), KEYS_PER_REQUEST):
        wanted = sorted(keys[start : start + KEYS_PER_REQUEST].to_pylist())
        while wanted:
            query = api.among(api.select(table, _key_alone(info)), table, wanted)
            found = [row[table.key.name] for row in api.send(query, f"{table.at_source}, keys listed again").rows]
            if not found:
                break
            listed += found
            wanted = [key for key in wanted if key > found[-1]]
    return pa.array(listed, ARROW_TYPES[table.key.kind])


def _key_alone(info: TableInfo) -> str:
    return f"{info.table.key.name}:{url_column(info.table.key.source_name)}"
