"""How work reports how far it is: one type, whoever works and whoever shows it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

# Takes what is done (rows, bytes) and what there is in all, where that is known.
Progress = Callable[[int, int | None], None]


def no_progress(done: int, total: int | None) -> None:
    """Report nothing."""


@dataclass
class Running:
    """A total that grows: `add` takes what was done since the last call, and reports the sum."""

    progress: Progress
    total: int | None
    done: int = 0

    def add(self, more: int) -> None:
        self.done += more
        self.progress(self.done, self.total)
