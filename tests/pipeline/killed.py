"""A pipeline in a process of its own that is killed: at a stage's end, or from outside at any instant."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
REACHED, GO = "stage-reached", "stage-go"
_PRELOADED = [
    "flows.engine.pipeline",
    "tasks.source.postgres",
    "matplotlib.backends.backend_agg",
    "tests.pipeline.killed",
    "tests.without_charts",
]


class _KillAt(logging.Handler):
    """SIGKILL to this process when the log says that a stage has ended, or so many seconds into the next one."""

    def __init__(self, stage: str, later: float) -> None:
        super().__init__(logging.INFO)
        self.words, self.later = f"stage={stage!r}", later

    def emit(self, record: logging.LogRecord) -> None:
        if not record.getMessage().startswith(self.words):
            return
        if not self.later:
            os.kill(os.getpid(), signal.SIGKILL)
        timer = threading.Timer(self.later, os.kill, (os.getpid(), signal.SIGKILL))
        timer.daemon = True
        timer.start()


class _PauseAt(logging.Handler):
    """When the log says that a stage has ended: says so by a file, and waits for another."""

    def __init__(self, stage: str, folder: Path) -> None:
        super().__init__(logging.INFO)
        self.words, self.folder = f"stage={stage!r}", folder

    def emit(self, record: logging.LogRecord) -> None:
        if record.getMessage().startswith(self.words) and not (self.folder / REACHED).exists():
            (self.folder / REACHED).touch()
            while not (self.folder / GO).exists():
                time.sleep(0.01)


def _main(env: dict[str, str], as_of: str, kill_after: str | None, pause_after: str | None, later: float = 0.0) -> None:
    from flows.engine.outcome import RunRequest
    from flows.engine.pipeline import run_pipeline
    from tasks.errors import PipelineError
    from tasks.ledger.as_of import AsOf

    for name in [name for name in os.environ if name.startswith(("ETL_", "SUPABASE_"))]:
        del os.environ[name]
    os.environ.update(env)
    os.chdir(env["ETL_DATA_DIR"])
    logger = logging.getLogger("flows.engine.run")
    logger.setLevel(logging.INFO)
    if kill_after:
        logger.addHandler(_KillAt(kill_after, later))
    if pause_after:
        logger.addHandler(_PauseAt(pause_after, Path(env["ETL_DATA_DIR"])))
    try:
        run_pipeline(RunRequest(as_of=AsOf.parse(as_of)))
    except PipelineError as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        os._exit(1)
    os._exit(0)


@cache
def _forks() -> ForkServerContext:
    """Imports once, forks often: a child starts in a moment and has no threads of ours.

    The server takes no search path from us but PYTHONPATH, and says nothing of an import that fails.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        forkserver.ensure_running()
    return context


@contextmanager
def child(
    env: dict[str, str],
    as_of: str,
    *,
    kill_after: str | None = None,
    pause_after: str | None = None,
    later: float = 0.0,
) -> Iterator[BaseProcess]:
    """The pipeline running in another process; whatever is left of it is killed at the end."""
    os.makedirs(env["ETL_DATA_DIR"], exist_ok=True)
    process = _forks().Process(target=_main, args=(env, as_of, kill_after, pause_after, later), daemon=True)
    process.start()
    try:
        yield process
    finally:
        process.kill()
        process.join()


@contextmanager
def paused_child(env: dict[str, str], as_of: str, stage: str) -> Iterator[tuple[BaseProcess, Path]]:
    """The pipeline in another process, at the end of a stage; it goes on when the file that is yielded is there."""
    folder = Path(env["ETL_DATA_DIR"])
    with child(env, as_of, pause_after=stage) as process:
        deadline = time.monotonic() + 120
        while not (folder / REACHED).exists():
            assert process.is_alive(), "the run ended before the stage"
            assert time.monotonic() < deadline, "the stage was not reached"
            time.sleep(0.01)
        yield process, folder / GO
    for name in (REACHED, GO):
        (folder / name).unlink(missing_ok=True)


def run_in_child(env: dict[str, str], as_of: str, *, kill_after: str | None = None, later: float = 0.0) -> int:
    """Exit code of a whole run in another process; -9 when it was killed. later: seconds after that stage's end."""
    with child(env, as_of, kill_after=kill_after, later=later) as process:
        process.join(120)
        assert process.exitcode is not None, "the run hangs"
        return process.exitcode


def kill_after_seconds(env: dict[str, str], as_of: str, seconds: float) -> None:
    """Start a run and kill it after so many seconds, wherever it is then."""
    with child(env, as_of) as process:
        deadline = time.monotonic() + seconds
        while process.is_alive() and time.monotonic() < deadline:
            time.sleep(0.005)
