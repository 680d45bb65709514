"""The kept users, as far as posts need them: no personal data, some 60 bytes a user."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from tasks.contracts import ARROW_TYPES, USERS
from tasks.workspace import read_table, write_table

Int64s = npt.NDArray[np.int64]
UInt64s = npt.NDArray[np.uint64]

_FACTOR = 0x9E3779B97F4A7C15

_HEX = np.zeros(256, np.uint8)
_HEX[list(b"0123456789abcdef")] = np.arange(16)
_UUID_DIGITS = np.array([i for i in range(36) if i not in (8, 13, 18, 23)])


def index_schema() -> pa.Schema:
    """id, created_at, status, is_duplicate and has_email of each kept user, in the order of the ids."""
    return pa.schema(
        [
            pa.field("id", ARROW_TYPES[USERS.key.kind]),
            pa.field("created_at", pa.timestamp("us", tz="UTC")),
            pa.field("status", pa.string()),
            pa.field("is_duplicate", pa.bool_()),
            pa.field("has_email", pa.bool_()),
        ]
    )


@dataclass(frozen=True)
class UserIndex:
    """Kept users in the order of their ids; a user's position in it stands for the user in the partial tables.

    Its rows stay in several batches: as one array of text, Arrow holds the uuids of some 60 million users and no more.
    """

    table: pa.Table

    @classmethod
    def load(cls, path: Path) -> UserIndex:
        return cls(read_table(path))

    def save(self, path: Path) -> None:
        write_table(path, self.table)

    @property
    def size(self) -> int:
        return int(self.table.num_rows)

    @cached_property
    def created_at(self) -> Int64s:
        """µs since the epoch."""
        created: Int64s = self.table["created_at"].cast(pa.int64()).to_numpy()
        return created

    def positions(self, ids: pa.Array) -> Int64s:
        """Where each id stands in the index; −1 for null and for what is not there."""
        if not self.size:
            return np.full(len(ids), -1, np.int64)
        lookup, words = self._lookup, _words(ids)
        found = np.asarray(lookup.index.get_indexer(pd.Index(lookup.mix(words))), np.int64)
        # Different ids may share a mixed word: only equal words count.
        found[(lookup.words[found] != words).any(axis=1)] = -1
        if ids.null_count:
            found[ids.is_null().to_numpy(zero_copy_only=False)] = -1
        return found

    def rows(self, positions: Int64s, *columns: str) -> pa.Table:
        """These columns of the users at these positions, which rise."""
        found, start, taken = [self.table.schema.empty_table()], 0, 0
        for batch in self.table.to_batches():
            end = start + batch.num_rows
            until = int(np.searchsorted(positions, end))
            here = pa.array(positions[taken:until] - start)
            found.append(pa.Table.from_batches([batch.take(here)]))
            start, taken = end, until
        return pa.concat_tables(found).select(list(columns))

    @property
    def has_numbers(self) -> bool:
        """Whether a 64-bit number stands for each user, made of its id alone: not when two ids give the same one."""
        return not self.size or int(self._lookup.factor) == _FACTOR

    @cached_property
    def numbers(self) -> Int64s:
        """The 64-bit number of each user, by position: a bigint itself, both halves of a uuid mixed."""
        return np.ascontiguousarray(self._lookup.mix(self._lookup.words)).view(np.int64)

    def positions_of_numbers(self, numbers: Int64s) -> Int64s:
        """Where the users of these numbers stand in the index; −1 for what is not there."""
        if not self.size:
            return np.full(len(numbers), -1, np.int64)
        return np.asarray(self._lookup.index.get_indexer(pd.Index(numbers.view(np.uint64))), np.int64)

    @cached_property
    def _lookup(self) -> _Lookup:
        words = np.concatenate([_words(ids) for ids in self.table["id"].chunks])
        for factor in range(_FACTOR, 2**64, 2):
            lookup = _Lookup(words, np.uint64(factor))
            if lookup.index.is_unique:
                return lookup
        raise AssertionError("unreachable: some factor separates all ids")


def loaded_index(path: Path) -> UserIndex:
    """The index at a path: read once by each process, not once a unit."""
    return _loaded(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=1)
def _loaded(path: Path, written: int) -> UserIndex:
    return UserIndex.load(path)


@dataclass(frozen=True)
class _Lookup:
    """A hash index over ids that are one or two 64-bit words, mixed into one."""

    words: UInt64s
    factor: np.uint64

    @cached_property
    def index(self) -> pd.Index[int]:
        return pd.Index(self.mix(self.words))

    def mix(self, words: UInt64s) -> UInt64s:
        if words.shape[1] == 1:
            return words[:, 0]
        high = words[:, 0] * self.factor
        return np.asarray((high ^ (high >> np.uint64(29))) * self.factor + words[:, 1], np.uint64)


def _words(ids: pa.Array) -> UInt64s:
    """Ids as 64-bit words: (n, 1) of a bigint, (n, 2) of a uuid in its lower-case form of 36 characters."""
    if pa.types.is_integer(ids.type):
        return np.asarray(ids.fill_null(0).to_numpy(zero_copy_only=False), np.int64).view(np.uint64).reshape(-1, 1)
    filled = ids.fill_null("00000000-0000-0000-0000-000000000000")
    start = np.frombuffer(filled.buffers()[1], np.int32)[filled.offset] if len(filled) else 0
    text = np.frombuffer(filled.buffers()[2], np.uint8)[start : start + 36 * len(filled)] if len(filled) else b""
    digits = _HEX[np.frombuffer(text, np.uint8).reshape(-1, 36)[:, _UUID_DIGITS]]
    return np.ascontiguousarray(digits[:, ::2] << 4 | digits[:, 1::2]).view(">u8").astype(np.uint64)
