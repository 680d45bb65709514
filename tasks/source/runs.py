"""Sorted runs: in memory, or in files of small pages with the first key of each, of which a bucket reads a few."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tasks.errors import ReadError
from tasks.platform.whole_file import part_of
from tasks.workspace import DISK_REMEDY

Keys = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Bucket:
    """Keys from `low` to before `high`, in the sorter's form; None is the end of the key space."""

    index: int
    low: Any
    high: Any


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows in the order of their keys, and these."""

    rows: pa.RecordBatch
    keys: Keys

    def part(self, start: int, stop: int) -> Piece:
        """The rows from `start` to before `stop`, where they lie."""
        return Piece(self.rows.slice(start, stop - start), self.keys[start:stop])

    def within(self, bucket: Bucket) -> Piece:
        """Its rows of a bucket."""
        start = 0 if bucket.low is None else int(np.searchsorted(self.keys, bucket.low))
        return self.part(start, len(self.keys) if bucket.high is None else int(np.searchsorted(self.keys, bucket.high)))


@dataclass(frozen=True, slots=True)
class Held:
    """A run in memory. step: rows of a page; there are pages here only to show how bytes are spread over keys."""

    piece: Piece
    nbytes: int
    step: int

    @property
    def firsts(self) -> Keys:
        """The first key of each page."""
        return self.piece.keys[:: self.step]

    @property
    def sizes(self) -> npt.NDArray[np.int64]:
        """Bytes of each page, about."""
        return np.full(len(self.firsts), self.nbytes // len(self.firsts), np.int64)


@dataclass(frozen=True, slots=True)
class Run:
    """A run in a file. firsts: the first key of each page; last: of all. offsets: of the pages' ends in the file, and
    before these of the first one's start."""

    path: Path
    schema: pa.Schema
    firsts: Keys
    last: Any
    offsets: npt.NDArray[np.int64]

    @property
    def sizes(self) -> npt.NDArray[np.int64]:
        """Bytes of each page."""
        return np.diff(self.offsets)

    def pages_of(self, bucket: Bucket) -> range:
        """The pages that may hold rows of a bucket."""
        if bucket.low is not None and self.last < bucket.low:
            return range(0)
        # The page before the first that starts in the bucket may end in it; equal keys may begin there, too.
        low = 0 if bucket.low is None else max(0, int(np.searchsorted(self.firsts, bucket.low)) - 1)
        return range(low, len(self.firsts) if bucket.high is None else int(np.searchsorted(self.firsts, bucket.high)))


class Budget:
    """Bytes that may be held in memory, of several threads together."""

    def __init__(self, nbytes: int) -> None:
        self._left = nbytes
        self._lock = threading.Lock()

    def take(self, nbytes: int) -> bool:
        """Whether there was room for so many bytes; then there is less."""
        with self._lock:
            if nbytes > self._left:
                return False
            self._left -= nbytes
            return True

    def give(self, nbytes: int) -> None:
        with self._lock:
            self._left += nbytes


class RunWriter:
    """Takes runs: those that the budget has room for stay in memory, others go to the file `path`, all or nothing.

    A context manager. runs, held: where they are once it has ended.
    """

    def __init__(self, path: Path, budget: Budget) -> None:
        self._path, self._budget = path, budget
        self._file = part_of(path).open("wb")
        self.runs, self.held = list[Run](), list[Held]()

    def __enter__(self) -> RunWriter:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._file.close()
        if kind is None:
            os.replace(self._file.name, self._path)
        else:
            os.unlink(self._file.name)
            self._budget.give(sum(run.nbytes for run in self.held))

    def hold(self, piece: Piece, step: int) -> None:
        """Keep a run in memory, whose room in the budget was taken."""
        self.held.append(Held(piece, piece.rows.nbytes, step))

    def write(self, pages: Iterable[pa.RecordBatch], firsts: Keys, last: Any) -> None:
        """A run of sorted pages with these first keys, into the file."""
        offsets = [self._file.tell()]
        for page in pages:
            packed = page.serialize()
            self._file.write(packed)
            offsets.append(offsets[-1] + packed.size)
        self.runs.append(Run(self._path, page.schema, firsts, last, np.array(offsets, np.int64)))


@dataclass(frozen=True, slots=True)
class Extract:
    """Adjoining pages of a run."""

    run: Run
    pages: range

    @property
    def start(self) -> int:
        return int(self.run.offsets[self.pages.start])

    @property
    def nbytes(self) -> int:
        return int(self.run.offsets[self.pages.stop]) - self.start

    def read(self, file: Any, memory: memoryview) -> list[pa.RecordBatch]:
        """The pages, which lie in `memory` from now on."""
        file.seek(self.start)
        if file.readinto(memory[: self.nbytes]) != self.nbytes:
            raise ReadError(
                f"{self.run.path.name}, sorted rows in the run's folder, is shorter than it was written.",
                remedy=DISK_REMEDY,
            )
        whole, offsets, schema = pa.py_buffer(memory), self.run.offsets - self.start, self.run.schema
        cuts = [(int(offsets[page]), int(offsets[page + 1])) for page in self.pages]
        return [pa.ipc.read_record_batch(whole.slice(start, stop - start), schema) for start, stop in cuts]


def read_extracts(extracts: Sequence[Extract], memory: memoryview) -> list[pa.RecordBatch]:
    """The pages of all extracts, one after the other in `memory`."""
    found: list[pa.RecordBatch] = []
    for path, of_file in groupby(extracts, key=lambda extract: extract.run.path):
        with path.open("rb") as file:
            for extract in of_file:
                found += extract.read(file, memory)
                memory = memory[extract.nbytes :]
    return found


class Memory:
    """What pages are read into, used again: memory that is new to the process costs more than reading into it."""

    def __init__(self) -> None:
        self._idle: list[bytearray] = []

    @contextmanager
    def of(self, nbytes: int) -> Iterator[memoryview]:
        """At least so many bytes for one thread, in the block alone."""
        try:
            memory = self._idle.pop()
        except IndexError:
            memory = bytearray()
        if len(memory) < nbytes:
            memory = bytearray(nbytes * 9 // 8)  # the next bucket may be a little larger
        yield memoryview(memory)
        self._idle.append(memory)

    def release(self) -> None:
        """Free what is not in use."""
        self._idle.clear()
