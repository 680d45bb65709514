"""Work on threads beside other work: two pieces at once, so that no more are held in memory, or requests together."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from itertools import islice
from threading import Event
from typing import Any, TypeVar

T = TypeVar("T")
Submit = Callable[..., Future[Any]]
# Set when nobody waits for the work of this context any more.
UNWANTED: ContextVar[Event | None] = ContextVar("unwanted", default=None)
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


class Unwanted(Exception):
    """Nobody waits for this work any more. Nobody sees this either."""


def pause(seconds: float) -> None:
    """Sleep between two tries, unless nobody waits for their outcome any more: then Unwanted."""
    unwanted = UNWANTED.get()
    if unwanted is None:
        time.sleep(seconds)
    elif unwanted.wait(seconds):
        raise Unwanted


def require_wanted() -> None:
    """Unwanted where nobody waits for the work of this context any more: before another piece of it starts."""
    unwanted = UNWANTED.get()
    if unwanted is not None and unwanted.is_set():
        raise Unwanted


@contextmanager
def beside(job: Callable[[], T], unwanted: Event | None = None) -> Iterator[Future[T]]:
    """Run a job on a thread while the block runs, which asks for its result; the block's end waits for it.

    unwanted: is set when an error ends the block, a signal's too: what the job asks of the project is not tried again.
    """
    unwanted, context = unwanted or Event(), copy_context()
    context.run(UNWANTED.set, unwanted)
    with ThreadPoolExecutor(1, thread_name_prefix="beside") as pool:
        try:
            yield pool.submit(context.run, job)
        except BaseException:
            unwanted.set()
            raise


@contextmanager
def together(threads: int, name: str) -> Iterator[Submit]:
    """What gives a job to one of so many threads while the block runs; its end waits for those that have started.

    An error that ends the block, a signal's too, starts no other one, and what they ask of the project is not tried
    again. name: of the threads.
    """
    unwanted, context = Event(), copy_context()
    context.run(UNWANTED.set, unwanted)
    pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
    try:
        yield lambda job, *given: pool.submit(context.copy().run, job, *given)
    except BaseException:
        unwanted.set()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


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
