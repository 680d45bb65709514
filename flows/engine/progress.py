"""Progress of a stage: rows, rows per second, share done and time left, in the terminal and on the run's page."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.context import TaskRunContext
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

logger = logging.getLogger(__name__)

Report = Callable[[int, int | None], None]
UPDATE_SECONDS = 2.0


class Meter:
    """Counts the rows of one stage. Call it with rows done and, where known, rows in all."""

    def __init__(self, stage: str, show: Callable[[str, float | None], None]) -> None:
        self.stage, self.show = stage, show
        self.began = self.shown = time.monotonic()
        self.rows = 0

    def __call__(self, done: int, total: int | None = None) -> None:
        self.rows, now = done, time.monotonic()
        if now - self.shown >= UPDATE_SECONDS:
            self.shown = now
            self.show(self.text(done, total), done / total if total else None)

    def text(self, done: int, total: int | None) -> str:
        """`120,000 of 200,000 rows, 45,000 rows/s, 2 s left`; total is an estimate and may be overtaken."""
        rate = done / max(time.monotonic() - self.began, 1e-3)
        known = total is not None and total >= done
        of = f" of about {total:,}" if known else ""
        left = f", {(total - done) / rate:,.0f} s left" if known and total is not None and rate > 0 else ""
        return f"{done:,}{of} rows, {rate:,.0f} rows/s{left}"


class Display:
    """Where progress goes: a live bar in the terminal when there is one to show, and always the run's page."""

    def __init__(self) -> None:
        self._live: Progress | None = None

    @contextmanager
    def terminal(self) -> Iterator[None]:
        """Show the stages of everything inside as live lines on stderr, where that is a terminal."""
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
        with Progress(*columns, TextColumn("{task.fields[figures]}"), console=Console(stderr=True)) as live:
            self._live = live
            try:
                yield
            finally:
                self._live = None

    @contextmanager
    def stage(self, title: str) -> Iterator[Meter]:
        """The meter of one stage, shown until the stage ends."""
        line = self._live.add_task(title, total=None, figures="") if self._live else None
        page = _PageBar(title)

        def show(text: str, share: float | None) -> None:
            self._update(line, total=1.0 if share is not None else None, completed=share or 0.0, figures=text)
            page.show(text, share)

        meter = Meter(title, show)
        try:
            yield meter
        finally:
            figures = f"{meter.rows:,} rows" if meter.rows else ""
            self._update(line, total=1.0, completed=1.0, figures=figures)
            page.finish()

    def _update(self, line: TaskID | None, **fields: Any) -> None:
        if self._live is not None and line is not None:
            self._live.update(line, **fields)


DISPLAY = Display()


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
