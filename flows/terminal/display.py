"""The terminal of a command while it runs: a line a stage and warnings, or lines of log where they are asked for.

Everything goes to stderr. On a terminal the running stage has a live bar; elsewhere each stage is one line at its end.
Nothing here imports Prefect, which reads the environment when it is imported.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import humanize
from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Column
from rich.text import Text

OURS = ("flows", "tasks")
LOG_FORMAT = "%(asctime)s %(levelname)s %(message)s"
IN_SUMMARY = {"in_summary": True}  # `extra` of a warning that the summary shows as well
_WIDE, _NARROW = 20, 8
_LONG = 100.0  # seconds from which on minutes are counted


def seconds_text(seconds: float) -> str:
    """`0.4 s`, `42 s`, `3 minutes and 20 seconds`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < _LONG:
        return f"{seconds:.0f} s"
    return humanize.precisedelta(round(seconds), minimum_unit="seconds", format="%d")


def show_error(message: str, *more: str) -> None:
    """What went wrong, on stderr, and what there is to say beside it (what to do, a page): a line each."""
    sys.stderr.write("\n  ".join(line for line in (f"✗ {message}", *more) if line) + "\n")


class Terminal:
    """Where a command shows its run; nothing is shown until `open`, or where no command runs."""

    def __init__(self) -> None:
        self._view: _Live | _Plain | None = None

    @contextmanager
    def open(self, *, verbose: bool) -> Iterator[None]:
        """Show the run that the block does. verbose: its lines of log instead of bars."""
        if verbose:
            with _handler(_log_handler()):
                yield
            return
        silence_prefect()
        console = Console(stderr=True, highlight=False)
        live = console.is_terminal and not console.is_dumb_terminal
        self._view = _Live(console) if live else _Plain(console)
        try:
            with _handler(_Warnings(self._view)):
                yield
        finally:
            if isinstance(self._view, _Live):
                self._view.stop()
            self._view = None

    @contextmanager
    def stage(self, title: str) -> Iterator[Line]:
        """The line of one stage, shown until the stage ends."""
        line = Line(self._view, title)
        try:
            yield line
        except BaseException:
            line.end(failed=True)
            raise
        line.end(failed=False)


class Line:
    """A stage on the terminal."""

    def __init__(self, view: _Live | _Plain | None, title: str) -> None:
        self._view, self._title, self._started = view, title, time.monotonic()
        self._line = view.start(title) if view else TaskID(0)
        self.rows = 0

    def update(self, figures: str, share: float | None) -> None:
        """figures: how far it is, in words. share: of 1, where it is known."""
        if self._view:
            self._view.update(self._line, figures, share)

    def end(self, *, failed: bool) -> None:
        """The stage has ended."""
        if self._view:
            seconds = time.monotonic() - self._started
            self._view.end(self._line, self._title, rows=self.rows, seconds=seconds, failed=failed)


class _Live:
    """Live lines; the bars begin with the first stage, so that what is printed before stands above them."""

    def __init__(self, console: Console) -> None:
        self._console, self._started = console, False
        seconds = _Seconds(table_column=Column(justify="right", no_wrap=True))
        figures = TextColumn("{task.fields[figures]}", table_column=Column(no_wrap=True, overflow="ellipsis"))
        bar = _Bar(bar_width=_WIDE if console.width >= 100 else _NARROW)
        columns = (_Mark(), TextColumn("{task.description}"), seconds, figures, bar)
        self._progress = Progress(*columns, console=console)

    def start(self, title: str) -> TaskID:
        if not self._started:
            self._progress.start()
            self._started = True
        return self._progress.add_task(title, total=None, figures="", state="running")

    def update(self, line: TaskID, figures: str, share: float | None) -> None:
        total = 1.0 if share is not None else None
        self._progress.update(line, total=total, completed=share or 0.0, figures=figures)

    def end(self, line: TaskID, title: str, *, rows: int, seconds: float, failed: bool) -> None:
        state, figures = "failed" if failed else "done", f"{rows:,} rows" if rows else ""
        self._progress.update(line, total=1.0, completed=1.0, figures=figures, state=state)

    def warn(self, message: str) -> None:
        self._console.print(f"! {message}", style="yellow", markup=False)

    def stop(self) -> None:
        if self._started:
            self._progress.stop()


class _Plain:
    """A line for each stage when it has ended: for a pipe, a file, a log of CI."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def start(self, title: str) -> TaskID:
        return TaskID(0)

    def update(self, line: TaskID, figures: str, share: float | None) -> None:
        """Nothing: only the end of a stage is a line."""

    def end(self, line: TaskID, title: str, *, rows: int, seconds: float, failed: bool) -> None:
        counted = f", {rows:,} rows" if rows else ""
        self._say(f"✗ {title}: failed after {seconds_text(seconds)}" if failed else
                  f"✓ {title}: {seconds_text(seconds)}{counted}")  # fmt: skip

    def warn(self, message: str) -> None:
        self._say(f"! {message}")

    def _say(self, text: str) -> None:
        self._console.print(text, markup=False, soft_wrap=True)


class _Mark(ProgressColumn):
    """A spinner while a stage runs, then ✓ or ✗."""

    def __init__(self) -> None:
        super().__init__()
        self._spinner = Spinner("dots", style="green")

    def render(self, task: Task) -> RenderableType:
        state = task.fields["state"]
        if state == "running":
            return self._spinner.render(task.get_time())
        return Text("✓", style="green") if state == "done" else Text("✗", style="red")


class _Seconds(ProgressColumn):
    """How long a stage has been running."""

    def render(self, task: Task) -> Text:
        elapsed = task.finished_time if task.finished else task.elapsed
        return Text(seconds_text(elapsed or 0.0), style="dim")


class _Bar(BarColumn):
    """A bar while a stage runs."""

    def render(self, task: Task) -> ProgressBar:
        return cast(ProgressBar, Text("")) if task.finished else super().render(task)


class _Warnings(logging.Handler):
    """Warnings of ours as lines of the terminal, but those that the summary shows."""

    def __init__(self, view: _Live | _Plain) -> None:
        super().__init__(logging.WARNING)
        self._view = view

    def emit(self, record: logging.LogRecord) -> None:
        if not getattr(record, "in_summary", False):
            self._view.warn(record.getMessage())


def _log_handler() -> logging.Handler:
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter(LOG_FORMAT))
    return handler


@contextmanager
def _handler(handler: logging.Handler) -> Iterator[None]:
    """What `flows` and `tasks` log goes to this handler, and beside it only to Prefect's pages."""
    loggers = [logging.getLogger(name) for name in OURS]
    before = [(logger.level, logger.propagate) for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        logger.propagate = False
    try:
        yield
    finally:
        for logger, (level, propagate) in zip(loggers, before, strict=True):
            logger.removeHandler(handler)
            logger.setLevel(level)
            logger.propagate = propagate


def silence_prefect() -> None:
    """Prefect's own lines stay out of this terminal: its pages have them, and the summary says how a run ended."""
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    for handler in logging.getLogger().handlers:
        if type(handler).__name__ == "PrefectConsoleHandler":
            handler.setLevel(logging.CRITICAL)


TERMINAL = Terminal()
