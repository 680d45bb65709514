"""Several ranges or slices at once on threads: progress from the caller's thread; the first failure stops them all."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from typing import TypeVar

import pyarrow as pa

from tasks.platform.progress import Progress

T = TypeVar("T")
U = TypeVar("U")
_TICK = 0.5  # seconds between two reports of progress


class Stopped(Exception):
    """Another range failed; this one ends early."""


class Tally:
    """Rows and bytes that all workers have read so far, and the signal that they should stop."""

    def __init__(self, rows: int = 0, nbytes: int = 0) -> None:
        self.rows, self.nbytes = rows, nbytes
        self.stop = threading.Event()
        self._lock = threading.Lock()

    def add(self, rows: int, nbytes: int) -> None:
        with self._lock:
            self.rows, self.nbytes = self.rows + rows, self.nbytes + nbytes

    def counted(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """The batches, counted as they pass; uncounted again when their range fails and is read again."""
        rows = nbytes = 0
        try:
            for batch in batches:
                if self.stop.is_set():
                    raise Stopped
                rows, nbytes = rows + batch.num_rows, nbytes + batch.nbytes
                self.add(batch.num_rows, batch.nbytes)
                yield batch
        except BaseException:
            self.add(-rows, -nbytes)
            raise

    def pause(self, seconds: float) -> None:
        """Sleep between two tries, unless the others were stopped meanwhile."""
        if self.stop.wait(seconds):
            raise Stopped


def run(
    ranges: Sequence[U],
    work: Callable[[U], T],
    tally: Tally,
    *,
    workers: int,
    progress: Progress,
    expected: int | None,
) -> list[T]:
    """`work` of every range, in the order of the ranges; raises the first failure once all workers have stopped."""
    with ThreadPoolExecutor(max(1, min(workers, len(ranges))), thread_name_prefix="read") as pool:
        futures = [pool.submit(work, r) for r in ranges]
        try:
            _watch(futures, tally, progress, expected)
        finally:
            tally.stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
    return [f.result() for f in futures]


def _watch(futures: Sequence[Future[T]], tally: Tally, progress: Progress, expected: int | None) -> None:
    pending = set(futures)
    while pending:
        done, pending = wait(pending, timeout=_TICK, return_when=FIRST_EXCEPTION)
        progress(tally.rows, expected)
        for future in done:
            future.result()
