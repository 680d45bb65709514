"""Whatever is done to a project, in any order: readers see one whole run, the next night leaves what a full one would.

A few operations here, 2,500 in the soak: `make soak ARGS="-k hundreds_of_operations"`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable

import pytest

from tests.incremental import histories
from tests.incremental.operations import (
    OPERATIONS,
    changes,
    night,
    restored,
    stopped_night,
)
from tests.incremental.operator import Operations
from tests.incremental.world import World

Operation = Callable[[Operations], None]
QUICK = (night, changes, stopped_night, restored)
IDENTITIES = ("service key",)  # of the project; each operation has its own


def play(world: World, operations: Iterable[Operation]) -> None:
    """These operations, and a night at their end."""
    histories.begin(world)
    played = Operations(world)
    try:
        for operation in operations:
            played.step(operation)
        played.step(lambda one: one.accepted(as_of="now"))
    finally:
        world.sql("drop schema if exists older cascade")
        sys.stderr.write("\n".join([*played.log, "\n"]))  # shown of a test that fails


@pytest.mark.slow
def test_any_operations_leave_what_a_full_night_gives(world: World) -> None:
    play(world, QUICK)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(100))
def test_hundreds_of_operations(seed: int, world: World) -> None:
    play(world, world.rng.choices(OPERATIONS, k=25))
