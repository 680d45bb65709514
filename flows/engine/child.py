"""A run in a process of its own, forked from one that has imported everything: it starts at once, its memory goes with
it, and it can be ended without harm."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType
from typing import Literal

from tasks.platform.interrupts import ENDING
from tasks.platform.version import CODE_VERSION, code_version

ROOT = Path(__file__).parents[2]
PRELOADED = ["flows.engine.child", "flows.nightly", "tasks.source.postgres", "matplotlib.backends.backend_agg"]
END_SECONDS = 30.0

Status = Literal["committed", "held", "lease held", "failed", "ended"]


@dataclass(frozen=True, slots=True)
class ChildOutcome:
    """How a run in a child ended. changed: rows inserted, updated and deleted; None when it did not commit."""

    status: Status
    run_id: str = ""
    changed: int | None = None
    message: str = ""
    seconds: float = 0.0


class ChildRun:
    """One run in a child process, as of now. `wait` blocks; `end` asks it to give the lease back and end.

    It is of the code that `warm` has loaded, and says so, whatever lies on the disk by now.
    """

    def __init__(self) -> None:
        context = warm()
        self._mine, theirs = context.Pipe(duplex=False)
        self._asked = False  # to end
        self._started = time.monotonic()
        env = {**os.environ, CODE_VERSION: code_version()}
        self._process: BaseProcess = context.Process(target=_main, args=(theirs, env, os.getcwd()))
        self._process.start()
        theirs.close()

    def wait(self) -> ChildOutcome:
        """Its outcome, once it has ended."""
        try:
            outcome: ChildOutcome = self._mine.recv()
        except EOFError:
            outcome = ChildOutcome("failed", message="The process of the run was killed.")
        finally:
            self._mine.close()
        self._process.join()
        return replace(outcome, seconds=time.monotonic() - self._started)

    def end(self) -> None:
        """Ask it to end, once; what it has written is not visible, and its lease is given back."""
        if not self._asked and self._process.is_alive():
            self._asked = True
            self._process.terminate()

    def kill(self) -> None:
        """End it for good; its lease runs out by itself."""
        if self._process.is_alive():
            self._process.kill()


def warm() -> ForkServerContext:
    """The server that forks children: imports once, has no thread and no connection."""
    code_version()  # which is remembered: that of the code which is imported now
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    before = os.environ.get("PYTHONPATH")  # the only search path that it takes from us
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), before]))
    try:
        forkserver.ensure_running()
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before
    return context


def _main(channel: Connection, env: dict[str, str], folder: str) -> None:
    _end_at_the_first_signal()
    os.environ.clear()
    os.environ.update(env)
    os.chdir(folder)
    channel.send(_outcome(_nightly))
    channel.close()
    sys.stdout.flush()


def _end_at_the_first_signal() -> None:
    """What follows it does not break off the end of the run, which gives the lease back and removes rows from the disk.

    Ctrl-C and a terminal that is closed reach this process, too, and the watch, which asks it to end then.
    """
    wanted = [number for number in ENDING if signal.getsignal(number) is not signal.SIG_IGN]

    def end(number: int, frame: FrameType | None) -> None:
        for each in wanted:
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt

    for number in wanted:
        signal.signal(number, end)


def _outcome(run: Callable[[], ChildOutcome]) -> ChildOutcome:
    from tasks.errors import LeaseHeld, PipelineError, RunHeld

    try:
        return run()
    except RunHeld as error:
        return ChildOutcome("held", error.run_id, message=str(error))
    except LeaseHeld as error:
        return ChildOutcome("lease held", message=str(error))
    except PipelineError as error:
        return ChildOutcome("failed", error.run_id, message=str(error))
    except Exception as error:  # noqa: BLE001 - texts of other errors may hold rows
        return ChildOutcome("failed", message=f"Unexpected {type(error).__name__}.")
    except BaseException:  # noqa: BLE001 - SIGTERM: KeyboardInterrupt, or Prefect's own signal
        return ChildOutcome("ended", message="Asked to end.")


def _nightly() -> ChildOutcome:
    """The nightly flow, with a page of its own, where Prefect has a server; else the pipeline alone."""
    from flows.engine.outcome import RunRequest
    from flows.engine.pipeline import run_pipeline
    from flows.engine.prefect_api import answer_of, prefect_answering
    from flows.forms import NightlyForm
    from flows.nightly import nightly
    from tasks.ledger.as_of import AsOf
    from tasks.settings.environment import prefect_api_url

    if prefect_api_url():
        with prefect_answering():
            outcome = answer_of(nightly, NightlyForm(as_of="now", dry_run=False))
    else:
        outcome = run_pipeline(RunRequest(as_of=AsOf.parse("now")))
    counts = outcome.tables.values()
    changed = sum(of.get(name, 0) for of in counts for name in ("inserted", "updated", "deleted"))
    return ChildOutcome("committed", outcome.run_id, changed)
