"""Files written in two steps: rows are split by month, then each month is written. The units of a step run at once."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, islice
from typing import Protocol

from tasks.files.manifest import FileEntry
from tasks.files.months import MonthSplit
from tasks.platform.workers import HERE, TOGETHER, Tick, Workers


class Splitting(Protocol):
    """A unit of the first step."""

    def split(self) -> MonthSplit: ...


class Writing(Protocol):
    """A unit of the second step."""

    def write(self) -> list[FileEntry]: ...


class InSteps(Protocol):
    """Files of one kind: how their rows are split, and how they are written from what the units of that found."""

    def splitting(self) -> Sequence[Splitting]: ...

    def writing(self, splits: Sequence[MonthSplit]) -> Sequence[Writing]: ...


def write_in_steps(kinds: Sequence[InSteps], *, workers: Workers = HERE) -> list[FileEntry]:
    """Write files of several kinds, each step of all kinds at once. What was split is removed."""
    units = [kind.splitting() for kind in kinds]
    splits = list(workers.map(_split, list(chain.from_iterable(units)), together=TOGETHER))
    try:
        of_kind = iter(splits)
        writing = [kind.writing(list(islice(of_kind, len(of)))) for kind, of in zip(kinds, units, strict=True)]
        written = workers.map(_write, list(chain.from_iterable(writing)), together=TOGETHER)
        return list(chain.from_iterable(written))
    finally:
        for split in splits:
            split.remove()


def _split(unit: Splitting, tick: Tick) -> MonthSplit:
    return unit.split()


def _write(unit: Writing, tick: Tick) -> list[FileEntry]:
    return unit.write()
