"""The answer to a commit is lost and the database is away after it: the run asks the ledger, and is committed once."""

from __future__ import annotations

import pytest

from data.demo import DemoCounts
from flows.engine.outcome import RunRequest
from flows.engine.pipeline import run_pipeline
from tasks.ledger.as_of import AsOf
from tests.pipeline.commit_proxy import losing_the_commit
from tests.pipeline.kit import AS_OF, CLOCK, Project


@pytest.mark.parametrize("away", [1, 35])
def test_a_commit_that_nobody_heard_of(
    away: float, project: Project, demo: DemoCounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    with losing_the_commit(project.stack.db_url, away=away * CLOCK) as proxy:
        for name, value in {**project.default_env("postgres"), "SUPABASE_DB_URL": proxy.url}.items():
            monkeypatch.setenv(name, value)
        outcome = run_pipeline(RunRequest(AsOf.parse(AS_OF)))
        assert proxy.lost == 1
    assert outcome.status == "committed"
    assert outcome.current
    assert outcome.tables["users"]["kept"] == demo.users.kept
    if away == 1:  # the try that follows finds it committed
        assert outcome.tables["users"]["inserted"] == demo.users.kept
        assert project.stack.query("select status from etl_runs") == "committed"
    project.assert_whole()
