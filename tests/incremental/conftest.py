"""A project with a small demo in it, and runs in this process.

Of the demo's years the last months do: each month is two partial tables and a file, to be stored or copied in each
night.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import datetime

import psycopg
import pytest

from data.demo import DemoCounts, load
from tests.incremental import histories
from tests.incremental.world import World
from tests.pipeline.conftest import Runner, identity, project, pytest_generate_tests, run
from tests.pipeline.kit import UNTIL, Project

__all__ = ["Runner", "demo", "identity", "project", "pytest_generate_tests", "run"]


@pytest.fixture
def demo(project: Project) -> DemoCounts:
    """Some hundred users and posts of the last months before UNTIL, all dirt of those months included."""
    counts = load(project.stack.db_url, users=400, posts=1_200, until=datetime.fromisoformat(UNTIL))
    project.stack.query("delete from posts where created_at < '2025-09-01+00' and created_at > '-infinity'")
    return counts


@pytest.fixture
def world(project: Project, request: pytest.FixtureRequest) -> Iterator[World]:
    """The project and what happens to it at random, by the test's name."""
    with psycopg.connect(project.stack.db_url, autocommit=True, prepare_threshold=None) as session:
        world = World(project, random.Random(request.node.name), session)
        try:
            yield world
        finally:
            histories.end(world)
