"""Work on threads beside other work, at most two pieces at once, so that no more than two are held in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
AT_ONCE = 2  # what runs beside it, a database or Storage on the same machine, wants some of the processors too


def ahead(items: Iterator[T]) -> Iterator[T]:
    """The items in their order, each made on a thread while the one before it is used. Raises what `items` raises."""
    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as pool:

        def following() -> list[T]:
            return list(islice(items, 1))

        waiting = pool.submit(following)
        while found := waiting.result():
            waiting = pool.submit(following)
            yield found[0]


@contextmanager
def beside(job: Callable[[], T]) -> Iterator[Future[T]]:
    """Run a job on a thread while the block runs, which asks for its result; the block's end waits for it."""
    with ThreadPoolExecutor(1, thread_name_prefix="beside") as pool:
        yield pool.submit(copy_context().run, job)


def at_once(jobs: Sequence[Callable[[], T]]) -> list[T]:
    """The results of the jobs in their order, two jobs at once. The first error, in their order, is raised.

    A job that has not started when another one fails does not start.
    """
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="merge") as pool:
        waiting = [pool.submit(copy_context().run, job) for job in jobs]
        try:
            return [future.result() for future in waiting]
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
