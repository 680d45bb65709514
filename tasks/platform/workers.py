"""Where the units of a stage run: in this process, one after the other, or on worker processes.

A unit is a piece of work that the data alone cuts (a key range, a month). It reads from the run's folder, writes to it,
and returns something small. It can run twice: its files appear under their names only when they are complete.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol, TypeVar, runtime_checkable

Unit = TypeVar("Unit")
Result = TypeVar("Result")
Tick = Callable[[int], None]  # takes the rows done since the last call
TOGETHER = 8  # short units in one task: some seconds of work, which is what a lost worker costs at most


def no_tick(rows: int) -> None:
    """Report no progress."""


@runtime_checkable
class NeedsFiles(Protocol):
    """A unit that says which files of the run's folder it reads; those that do not exist are passed over."""

    def inputs(self) -> Sequence[Path]: ...


class Workers(Protocol):
    """Runs units. `count` is how many run at once; 0 stands for this process."""

    count: int

    def map(
        self, work: Callable[[Unit, Tick], Result], units: Sequence[Unit], *, tick: Tick = no_tick, together: int = 1
    ) -> Iterator[Result]:
        """The results in the order of the units. The first failure ends the others and is raised.

        together: how many neighbouring units one task may have at most. For many short units: a task has a price.
        """

    def peak_mib(self) -> float:
        """The most memory that one worker process has held so far, MiB; 0 where there is none."""


class ThisProcess:
    """Runs one unit after the other, here."""

    count = 0

    def map(
        self, work: Callable[[Unit, Tick], Result], units: Sequence[Unit], *, tick: Tick = no_tick, together: int = 1
    ) -> Iterator[Result]:
        for unit in units:
            yield work(unit, tick)

    def peak_mib(self) -> float:
        return 0.0


def runs_of(units: Sequence[Unit], *, workers: int, together: int) -> Iterator[Sequence[Unit]]:
    """Neighbouring units, as runs for one task each: first long ones, then ever shorter ones, to end together."""
    start = 0
    while start < len(units):
        size = min(together, -(-(len(units) - start) // (4 * workers)))
        yield units[start : start + size]
        start += size


HERE = ThisProcess()
