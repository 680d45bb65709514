"""Live progress of a long stage on the run's page: rows, rate and time left, at most one update in two seconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact

SECONDS_BETWEEN = 2.0
Report = Callable[[int, int | None], None]


def describe(what: str, done: int, total: int | None, seconds: float) -> str:
    """`posts: 120,000 of 500,000 rows, 45,000 rows/s, 8 s left`."""
    rate = done / seconds if seconds > 0 else 0.0
    of = f" of {total:,}" if total else ""
    left = f", {(total - done) / rate:,.0f} s left" if total and rate and done < total else ""
    return f"{what}: {done:,}{of} rows, {rate:,.0f} rows/s{left}"


@contextmanager
def progress(what: str) -> Iterator[Report]:
    """A callable for a stage's `progress=`; its artifact is made on the first report and full when the stage ends."""
    shown = _Shown(what)
    yield shown.report
    shown.finish()


class _Shown:
    def __init__(self, what: str) -> None:
        self._what, self._began, self._last = what, time.monotonic(), 0.0
        self._artifact: UUID | None = None
        self._done = 0

    def report(self, done: int, total: int | None) -> None:
        """Show it, unless the last update was a moment ago: each is a request to the server."""
        self._done = done
        if time.monotonic() - self._last >= SECONDS_BETWEEN:
            self._show(min(99.0, 100.0 * done / total) if total else 0.0, total)

    def finish(self) -> None:
        """The end of a stage that was long enough to be shown at all."""
        if self._artifact:
            self._show(100.0, None)

    def _show(self, share: float, total: int | None) -> None:
        self._last = time.monotonic()
        text = describe(self._what, self._done, total, self._last - self._began)
        if self._artifact is None:
            made = create_progress_artifact(share, key=f"progress-{_slug(self._what)}", description=text)
            self._artifact = made if isinstance(made, UUID) else None
        else:
            update_progress_artifact(self._artifact, share, description=text)


def _slug(text: str) -> str:
    return "-".join(text.lower().replace("_", " ").split())
