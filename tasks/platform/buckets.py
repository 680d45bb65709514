"""Work on the files of a bucket, several at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from contextvars import copy_context
from queue import SimpleQueue
from typing import TypeVar

from tasks.arrow.ahead import require_wanted
from tasks.platform.bucket import Bucket
from tasks.settings import Settings

T = TypeVar("T")
R = TypeVar("R")


def each(
    settings: Settings,
    work: Callable[[Bucket, T], R],
    items: Sequence[T],
    *,
    key: str | None = None,
    access_token: str | None = None,
) -> Iterator[R]:
    """Results of `work` on each item, as they come, with up to `settings.writers` clients at once.

    The first error ends it, and so does a signal where `beside` runs it: what has not started does not start.
    """
    clients = min(settings.writers, len(items))
    if not clients:
        return
    with ExitStack() as stack:
        free: SimpleQueue[Bucket] = SimpleQueue()
        for _ in range(clients):
            free.put(stack.enter_context(Bucket(settings, key=key, access_token=access_token)))

        def run(item: T) -> R:
            require_wanted()
            bucket = free.get()
            try:
                return work(bucket, item)
            finally:
                free.put(bucket)

        pool = stack.enter_context(ThreadPoolExecutor(clients, thread_name_prefix="storage"))
        futures = [pool.submit(copy_context().run, run, item) for item in items]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
