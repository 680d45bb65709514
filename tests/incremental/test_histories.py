"""Whatever happened between two nights, the second one leaves what a full night would: on both transports.

A few seeds here, many more in the soak: `make soak ARGS="-k histories"`. There the seeds alternate between the service
key and a signed-in user: 200 histories in total.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import psycopg
import pytest

from tests.incremental import histories
from tests.incremental.nights import play
from tests.incremental.world import World
from tests.pipeline.conftest import Runner, alternating
from tests.pipeline.kit import Project

NIGHTS = 4


@pytest.fixture
def world(project: Project, request: pytest.FixtureRequest) -> Iterator[World]:
    with psycopg.connect(project.stack.db_url, autocommit=True, prepare_threshold=None) as session:
        world = World(project, random.Random(request.node.name), session)
        try:
            yield world
        finally:
            histories.end(world)


@pytest.mark.parametrize("seed", range(2))
def test_any_history_gives_what_a_full_night_gives(seed: int, world: World, run: Runner) -> None:
    play(world, run, NIGHTS)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@alternating("seed", ((seed,) for seed in range(200)))
def test_hundreds_of_histories(seed: int, world: World, run: Runner) -> None:
    play(world, run, 12)
