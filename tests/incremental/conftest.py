"""A project with a small demo in it, and runs in this process.

Nights here draw no charts, which cost more than all the rest of a small night: what is compared are tables, Parquet
files and figures, and charts are made of those. Whole nights with charts run in `tests/pipeline`.
"""

from __future__ import annotations

import pytest

from tests.pipeline.conftest import Runner, demo, identity, project, pytest_generate_tests, run

__all__ = ["Runner", "demo", "identity", "project", "pytest_generate_tests", "run", "without_charts"]


@pytest.fixture(autouse=True)
def without_charts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.engine.stages.draw_charts", lambda *args, **options: [])
