"""A project with a small demo in it, and runs in this process.

Nights here draw no charts, which cost more than all the rest of a small night: what is compared are tables, Parquet
files and figures, and charts are made of those. Whole nights with charts run in `tests/pipeline`. Of the demo's years
the last months do: each month is two partial tables and a file, to be stored or copied in each night.
"""

from __future__ import annotations

from datetime import datetime

import pytest

from data.demo import DemoCounts, load
from tests.pipeline.conftest import Runner, identity, project, pytest_generate_tests, run
from tests.pipeline.kit import UNTIL, Project

__all__ = ["Runner", "demo", "identity", "project", "pytest_generate_tests", "run", "without_charts"]


@pytest.fixture(autouse=True)
def without_charts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.engine.stages.draw_charts", lambda *args, **options: [])


@pytest.fixture
def demo(project: Project) -> DemoCounts:
    """Some hundred users and posts of the last months before UNTIL, all dirt of those months included."""
    counts = load(project.stack.db_url, users=400, posts=1_200, until=datetime.fromisoformat(UNTIL))
    project.stack.query("delete from posts where created_at < '2025-09-01+00' and created_at > '-infinity'")
    return counts
