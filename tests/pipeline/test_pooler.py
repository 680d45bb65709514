"""A whole run through a session pooler, as hosted projects have one: each session has a connection of its own."""

from __future__ import annotations

import pytest

from data.demo import DemoCounts
from flows.engine.outcome import RunRequest
from flows.engine.pipeline import run_pipeline
from tasks.ledger.as_of import AsOf
from tests.pipeline.kit import AS_OF, Project
from tests.platform.pgbouncer import pgbouncer


def test_a_run_through_a_session_pooler(project: Project, demo: DemoCounts, monkeypatch: pytest.MonkeyPatch) -> None:
    with pgbouncer(project.stack, "session") as pooler:
        for name, value in {**project.env("postgres"), "SUPABASE_DB_URL": pooler}.items():
            monkeypatch.setenv(name, value)
        first, again = (run_pipeline(RunRequest(as_of=AsOf.parse(AS_OF))) for _ in range(2))
    for table in ("users", "posts"):
        assert first.tables[table]["inserted"] == again.tables[table]["unchanged"] == demo[table].kept
    project.assert_whole()
