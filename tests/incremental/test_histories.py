"""Whatever happened between two nights, the second one leaves what a full night would: on both transports.

A few seeds here, many more in the soak: `make soak ARGS="-k histories"`. There the seeds alternate between the service
key and a signed-in user: 200 histories in total.
"""

from __future__ import annotations

import pytest

from tests.incremental.nights import play
from tests.incremental.world import World
from tests.pipeline.conftest import Runner, alternating

NIGHTS = 4


@pytest.mark.parametrize("seed", range(2))
def test_any_history_gives_what_a_full_night_gives(seed: int, world: World, run: Runner) -> None:
    play(world, run, NIGHTS)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@alternating("seed", ((seed,) for seed in range(200)))
def test_hundreds_of_histories(seed: int, world: World, run: Runner) -> None:
    play(world, run, 12)
