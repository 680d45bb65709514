"""Progress of a stage: rows, rows per second, share done and time left, in the terminal and on the run's page."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import cast
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.context import TaskRunContext

from flows.terminal.display import TERMINAL

logger = logging.getLogger(__name__)

UPDATE_SECONDS = 2.0


class Meter:
    """Counts the rows of one stage. Call it with rows done and, where known, rows in all."""

    def __init__(self, stage: str, show: Callable[[str, float | None], None]) -> None:
        self.stage, self.show = stage, show
        self.started = self.shown = time.monotonic()
        self.rows = 0

    def __call__(self, done: int, total: int | None = None) -> None:
        self.rows, now = done, time.monotonic()
        if now - self.shown >= UPDATE_SECONDS:
            self.shown = now
            self.show(self.text(done, total), done / total if total else None)

    def text(self, done: int, total: int | None) -> str:
        """`120,000 of 200,000 rows, 45,000 rows/s, 2 s left`; total is an estimate and may be overtaken."""
        rate = done / max(time.monotonic() - self.started, 1e-3)
        known = total is not None and total >= done
        of = f" of about {total:,}" if known else ""
        left = f", {(total - done) / rate:,.0f} s left" if known and total is not None and rate > 0 else ""
        return f"{done:,}{of} rows, {rate:,.0f} rows/s{left}"


@contextmanager
def shown(title: str) -> Iterator[Meter]:
    """The meter of one stage, shown in the terminal and on the run's page until the stage ends."""
    page = _PageBar(title)
    with TERMINAL.stage(title) as line:

        def show(text: str, share: float | None) -> None:
            line.update(text, share)
            page.show(text, share)

        meter = Meter(title, show)
        try:
            yield meter
        finally:
            line.rows = meter.rows
            page.finish()


class _PageBar:
    """A progress artifact of the task that is running; none where no task runs or the server cannot be asked."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.artifact: UUID | None = None

    def show(self, text: str, share: float | None) -> None:
        if TaskRunContext.get() is None:
            return
        percent = min(100.0, 100 * (share or 0.0))
        try:
            if self.artifact is None:
                self.artifact = cast(UUID, create_progress_artifact(percent, description=f"{self.title}: {text}"))
            else:
                update_progress_artifact(self.artifact, percent, description=f"{self.title}: {text}")
        except Exception as error:  # noqa: BLE001 - a run must not fail for its progress bar
            logger.debug("The progress of %s could not be shown: %s", self.title, type(error).__name__)

    def finish(self) -> None:
        if self.artifact is not None:
            self.show("done", 1.0)
