"""A watch in a thread of this process, where a hundred of them share the server that forks their runs.

All else is as in `python -m flows.watch`: the loop, Realtime's client, the polls, real runs in processes of their own.
"""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import psycopg
import pytest

from flows.engine.child import PRELOADED
from flows.engine.watching import Watch
from local_stack import Stack
from tasks.platform.functions import open_database
from tasks.platform.identity import acting
from tasks.settings import load_settings
from tests.live.kit import ROOT, Watched, environment
from tests.without_charts import SWITCH


@contextmanager
def watching_here(stack: Stack, folder: Path, *, url: str) -> Iterator[Watched]:
    """As `watching`, and its runs draw no charts: those cost more than all the rest of a small run."""
    _forks()
    with pytest.MonkeyPatch.context() as patch, _log(folder / "watch.log") as say:
        patch.chdir(folder)
        for name, value in {**environment(stack, folder, url=url), SWITCH: "1"}.items():
            patch.setenv(name, value)
        settings = load_settings()
        with acting(settings) as identity, open_database(settings) as database:
            thread = _Thread(Watch(settings, database, identity, say=say))
            thread.start()
            try:
                with psycopg.connect(stack.db_url, autocommit=True) as session:
                    watched = Watched(stack, folder, session, thread.is_alive)
                    watched.wait((folder / "watch.json").exists, "no health file")
                    yield watched
            finally:
                thread.stop()
                assert watched.health["state"] == "stopped", "a clean end"


class _Thread(threading.Thread):
    """Runs a watch in a loop of its own."""

    def __init__(self, watch: Watch) -> None:
        super().__init__(daemon=True)
        self._watch = watch
        self._loop: asyncio.AbstractEventLoop | None = None

    def run(self) -> None:
        asyncio.run(self._main())

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        await self._watch.run()

    def stop(self) -> None:
        if self._loop is not None and self.is_alive():
            self._loop.call_soon_threadsafe(self._watch.stop)
        self.join(90)
        assert not self.is_alive(), "the watch hangs"


@cache
def _forks() -> None:
    """Start the server that forks runs, with the switch for charts in it."""
    context: Any = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*PRELOADED, "tests.without_charts"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        forkserver.ensure_running()


@contextmanager
def _log(path: Path) -> Iterator[Any]:
    """What the command would write: its log, and what it says of each run."""
    handler = logging.FileHandler(path)
    root, level = logging.getLogger(), logging.getLogger("flows").level
    root.addHandler(handler)
    logging.getLogger("flows").setLevel(logging.INFO)
    try:
        yield lambda text: handler.emit(logging.makeLogRecord({"msg": text}))
    finally:
        root.removeHandler(handler)
        logging.getLogger("flows").setLevel(level)
        handler.close()
