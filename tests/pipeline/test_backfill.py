"""A backfill: one reading for all of its days, each a run of its own, and a night that waits goes first."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from data.demo import DemoCounts
from flows.engine.outcome import RunOutcome, RunRequest
from flows.engine.pipeline import run_pipeline
from flows.engine.series import run_series
from tasks.errors import ServiceUnavailable
from tasks.ledger.as_of import AsOf
from tasks.ledger.ledger import Ledger
from tasks.platform.functions import PostgresDatabase
from tasks.settings import Transport
from tests.pipeline.conftest import Runner
from tests.pipeline.killed import child
from tests.pipeline.kit import AS_OF, Project
from tests.pipeline.test_runs import TRANSPORTS

DAYS = [datetime(2025, 12, day, tzinfo=UTC) for day in (22, 23, 24)]


@pytest.fixture
def committed(project: Project, monkeypatch: pytest.MonkeyPatch) -> Callable[[Transport], None]:
    """Points this process at the project, with the default lease and retries."""

    def commit(transport: Transport) -> None:
        for name, value in project.default_env(transport).items():
            monkeypatch.setenv(name, value)

    return commit


def backfill(days: list[datetime], between: Callable[[datetime], None] = lambda day: None) -> list[RunOutcome]:
    """As the flow does it, without Prefect."""
    outcomes = []

    def commit(day: datetime, work: Callable[[], RunOutcome]) -> None:
        between(day)
        outcomes.append(work())

    run_series(RunRequest(historical=True, scheduled=True, yields=True), days, commit)
    return outcomes


def reports_of(project: Project, outcome: RunOutcome) -> dict[str, str]:
    return {entry.path: entry.sha256 for entry in outcome.files if entry.path.endswith(".parquet")}


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_each_day_is_the_run_that_it_would_be_alone(
    transport: Transport,
    project: Project,
    demo: DemoCounts,
    committed: Callable[[Transport], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    committed(transport)
    run_pipeline(RunRequest(AsOf.parse(AS_OF)))
    state = project.state()
    caplog.clear()  # an earlier test may have turned the level up: the first run is not asked about
    with caplog.at_level(logging.INFO, "flows"):
        together = backfill(DAYS)
    stages = [
        record.getMessage().split("'")[1] for record in caplog.records if record.getMessage().startswith("stage=")
    ]
    assert stages.count("Read posts") == stages.count("Clean posts") == 1, "one reading and one cleaning for all days"
    assert stages.count("Load and commit") == len(DAYS)
    alone = [run_pipeline(RunRequest(AsOf.instant(day), historical=True)) for day in DAYS]
    assert [outcome.as_of for outcome in together] == DAYS
    for one, other in zip(together, alone, strict=True):
        assert reports_of(project, one) == reports_of(project, other)
        assert project.file(f"{one.run_path}/manifest.json")
    assert project.state() == state, "history moves neither the pointer nor a table"
    assert not project.remove_local_runs()


@pytest.mark.slow
def test_a_night_that_waits_goes_before_the_next_day(
    project: Project,
    demo: DemoCounts,
    run: Runner,
    committed: Callable[[Transport], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run()
    committed("postgres")
    monkeypatch.setenv("ETL_WAIT_FOR_LEASE", "3600")
    env = {**project.default_env("postgres"), "ETL_WAIT_FOR_LEASE": "3600"}
    with ExitStack() as stack:

        def between(day: datetime) -> None:
            if day == DAYS[0]:  # the first day holds the lease: the night is declined, and waits
                stack.enter_context(child(env, "midnight"))
                _until(lambda: project.stack.query("select count(*) from etl_waiting") == "1")

        outcomes = backfill(DAYS, between)
    order = project.stack.query("select run_id from etl_runs where status = 'committed' order by finished_at").split()
    first, second, third = (outcome.run_id for outcome in outcomes)
    assert [order[1], *order[3:]] == [first, second, third]
    assert project.stack.query(f"select as_of_mode from etl_runs where run_id = '{order[2]}'") == "midnight"
    latest = project.latest()
    assert latest is not None
    assert latest["run"].endswith(order[2]), "the night is what readers see"


def test_days_that_another_backfill_commits_meanwhile_are_left_out(
    project: Project, demo: DemoCounts, committed: Callable[[Transport], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second one, which waited for the lease, did all of them again; later, the first where a watch ran beside."""
    committed("postgres")
    started_at = datetime.now(UTC) - timedelta(seconds=1)
    monkeypatch.setattr(Ledger, "clock", lambda _: started_at)  # as if the second were there from the start
    second: list[RunOutcome] = []
    columns = "run_id, token, status, transport, as_of, as_of_mode, historical, lease_seconds, finished_at"
    row = "'watched-' || i, gen_random_uuid(), 'committed', 'rest', now(), 'now', true, 120, now()"

    def commit(day: datetime, work: Callable[[], RunOutcome]) -> None:
        first.append(work())
        if day == DAYS[0]:
            project.stack.query(f"insert into etl_runs ({columns}) select {row} from generate_series(1, 60) i")
            second.extend(backfill(DAYS))

    first: list[RunOutcome] = []
    run_series(RunRequest(historical=True, scheduled=True, yields=True), DAYS, commit)
    assert [outcome.as_of for outcome in (*first, *second)] == DAYS
    assert len(second) == 2
    runs = "select status, count(*) from etl_runs where run_id not like 'watched-%' group by 1"
    assert project.stack.query(runs) == "committed|3"


@pytest.mark.slow
def test_the_day_after_one_that_another_run_has_made_since_it_failed_is_as_of_itself(
    project: Project, demo: DemoCounts, committed: Callable[[Transport], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was as of the one before, whose run it took for its own earlier try, and said to be published. The last day's
    first request for the lease is lost: it is as of itself, too."""
    committed("postgres")
    columns = "run_id, token, status, transport, as_of, as_of_mode, historical, lease_seconds, finished_at"
    row = f"'another', gen_random_uuid(), 'committed', 'rest', '{DAYS[0]}', 'at', true, 120, now()"

    def between(day: datetime) -> None:
        if day == DAYS[0]:
            project.stack.query(f"insert into etl_runs ({columns}) values ({row})")
            raise ServiceUnavailable("The database is away.")

    def lost(database: PostgresDatabase, function: str, /, **arguments: Any) -> Any:
        starts.append(function)
        if function == "etl_start" and starts.count("etl_start") == 3:
            raise ServiceUnavailable("The database is away.")
        return call(database, function, **arguments)

    call, starts = PostgresDatabase.call, list[str]()
    monkeypatch.setattr(PostgresDatabase, "call", lost)
    assert [outcome.as_of for outcome in backfill(DAYS, between)] == DAYS[1:]


def _until(happened: Callable[[], bool]) -> None:
    deadline = datetime.now(UTC) + timedelta(seconds=60)
    while not happened():
        assert datetime.now(UTC) < deadline
