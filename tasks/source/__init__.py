"""Reading `users` and `posts`: complete, exactly once, from REST or from Postgres.

with open_source(settings) as source:
    source.preflight([POSTS, USERS])
    source.read(POSTS, workspace.raw(POSTS))
    source.read(USERS, workspace.raw(USERS))
    source.reconcile(workspace)
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

import httpx

from tasks.platform.workers import HERE, Workers
from tasks.settings import Settings
from tasks.source.model import Preflight, Reconciled, Source, TableInfo, TableRead
from tasks.source.rest import RestSource

__all__ = ["Preflight", "Reconciled", "Source", "TableInfo", "TableRead", "open_source"]


@contextmanager
def open_source(
    settings: Settings,
    *,
    snapshot_at: datetime | None = None,
    transport: httpx.BaseTransport | None = None,
    workers: Workers = HERE,
) -> Iterator[Source]:
    """The source on the transport that the settings choose; its connections are closed at the end.

    snapshot_at: of the run that is resumed. REST keeps it, with the ranges that were finished; Postgres reads from
    scratch, at an instant of its own. transport: what sends REST's requests, for tests. workers: who reads.
    """
    if settings.resolved_transport == "rest":
        yield RestSource(settings, snapshot_at=snapshot_at, transport=transport, workers=workers)
        return
    from tasks.source.postgres import PostgresSource  # the driver is large, and REST does without

    with PostgresSource(settings, workers) as source:
        yield source
