"""One run at a time: the database decides who holds the lease, and whoever lost it writes nothing more."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from local_stack import Stack
from tasks.errors import ConfigurationError, LeaseHeld, LeaseLost, WriteError
from tasks.ledger.as_of import AsOf
from tasks.ledger.lease import Heartbeat, Lease, NoHeartbeat
from tasks.ledger.ledger import Ledger, Start
from tasks.platform.functions import Database, open_database
from tasks.settings import Settings, Transport
from tasks.sink import plan
from tasks.workspace import Workspace
from tests.sink.kit import (
    AS_OF,
    TRANSPORTS,
    Night,
    days_before,
    empty,
    fill,
    post,
    rows_of,
    settings_for,
    start,
    versions,
    work,
    write,
)

both = pytest.mark.parametrize("transport", TRANSPORTS)


@contextmanager
def ledger_of(settings: Settings) -> Iterator[Ledger]:
    with open_database(settings) as database:
        yield Ledger(database, settings)


@pytest.fixture
def settings(stack: Stack, tmp_path: Path, transport: Transport) -> Settings:
    empty(stack)
    return settings_for(stack, transport, tmp_path)


def silence(stack: Stack, run: Lease) -> None:
    """The run was last heard of longer ago than its term."""
    stack.query(f"update public.etl_runs set heartbeat = now() - interval '1 hour' where run_id = '{run.run_id}'")


@both
def test_of_many_starts_at_once_one_gets_the_lease(stack: Stack, settings: Settings) -> None:
    got: list[Lease] = []
    declined: list[LeaseHeld] = []
    together = threading.Barrier(6)

    def compete() -> None:
        with ledger_of(settings) as ledger:
            together.wait()
            try:
                got.append(start(ledger, settings))
            except LeaseHeld as held:
                declined.append(held)

    threads = [threading.Thread(target=compete) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(got), len(declined)) == (1, 5)
    assert all(got[0].run_id in str(held) and "UTC" in str(held) for held in declined)


@both
def test_a_start_whose_answer_was_lost_is_the_same_start(stack: Stack, settings: Settings) -> None:
    facts = {"transport": settings.resolved_transport, "as_of_mode": "now", "lease_seconds": 9, "resume_within": 9}
    token = "00000000-0000-4000-8000-000000000001"
    with open_database(settings) as database:
        first = database.call("etl_start", p_run="a", p_token=token, p_facts=facts)
        assert database.call("etl_start", p_run="a", p_token=token, p_facts=facts) == first
        assert "token" not in first


class Signalled:
    """A database whose answer to one function comes together with a signal, once."""

    def __init__(self, database: Database, function: str) -> None:
        self._database, self._function = database, function

    def call(self, function: str, **arguments: Any) -> Any:
        answer = self._database.call(function, **arguments)
        if function == self._function:
            self._function = ""
            raise KeyboardInterrupt
        return answer


@both
@pytest.mark.parametrize("function", ["etl_start", "etl_history"])
def test_a_lease_that_comes_with_a_signal_is_given_back(stack: Stack, settings: Settings, function: str) -> None:
    asked = Start(AsOf("now"), settings.resolved_transport)
    with open_database(settings) as database:
        ledger = Ledger(Signalled(database, function), settings)
        with pytest.raises(KeyboardInterrupt), ledger.given_back_when_interrupted(asked.ticket):
            ledger.start(asked)
    assert stack.query("select status, error from public.etl_runs") == "failed|KeyboardInterrupt"
    with ledger_of(settings) as ledger:
        assert start(ledger, settings).run_id


@both
def test_a_start_waits_for_the_other_run_and_says_so_once_a_minute(
    stack: Stack, settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("tasks.ledger.ledger._POLL_SECONDS", 0.05)
    caplog.set_level(logging.INFO)
    with ledger_of(settings) as ledger:
        first = start(ledger, settings)
        threading.Timer(0.5, lambda: stack.query("update public.etl_runs set status = 'failed'")).start()
        patient = settings.model_copy(update={"wait_for_lease": 60})
        with ledger_of(patient) as waiting:
            assert start(waiting, patient).run_id != first.run_id
    assert caplog.text.count("Waiting, ") == 1


@both
def test_an_unresponsive_holder_is_replaced_and_can_write_nothing(
    stack: Stack, settings: Settings, tmp_path: Path
) -> None:
    with ledger_of(settings) as ledger:
        unresponsive = start(ledger, settings)
        workspace = Workspace.create(tmp_path, unresponsive.run_id)
        fill(workspace, Night(posts=[post(n) for n in range(9)]))
        plan(settings, workspace, unresponsive)
        silence(stack, unresponsive)
        taker = start(ledger, settings)
        before = versions(stack)
        for late in (
            lambda: write(settings, workspace, unresponsive),
            lambda: ledger.stage(unresponsive, "load"),
            lambda: ledger.begin(unresponsive, datetime.now(UTC)),
        ):
            with pytest.raises(LeaseLost):
                late()
        ledger.fail(unresponsive, WriteError("too late"))
        assert versions(stack) == before
        replaced, holder = ledger.run(unresponsive.run_id), ledger.run(taker.run_id)
    assert replaced is not None
    assert taker.run_id in (replaced.error or "")
    assert holder is not None
    assert holder.status == "running"


@both
def test_every_function_that_writes_asks_for_the_token(stack: Stack, settings: Settings) -> None:
    with open_database(settings) as database:
        run = start(Ledger(database, settings), settings)
        stale: dict[str, Any] = {"p_run": run.run_id, "p_token": "00000000-0000-4000-8000-00000000dead"}
        calls: dict[str, dict[str, Any]] = {
            "etl_write": {"p_batch": "b", "p_table": "posts", "p_rows": [{"id": post(1)["id"]}], "p_limit": 1},
            "etl_write_staged": {"p_table": "posts", "p_count": 1, "p_limit": 1},
            "etl_delete": {"p_batch": "b", "p_table": "posts", "p_ids": [post(1)["id"]]},
            "etl_write_rejects": {"p_rows": []},
            "etl_delete_rejects": {"p_table": "posts", "p_ids": []},
            "etl_mark_wrong": {"p_table": "posts", "p_columns": ["id"], "p_after": "", "p_until": ""},
            "etl_distrust_base": {},
            "etl_commit": {"p_facts": {}, "p_aggregates": {}},
            "etl_restore": {"p_target": run.run_id, "p_aggregates": {}},
            "etl_stage": {"p_stage": "load", "p_figures": {}},
            "etl_begin": {"p_began": "2026-01-01T00:00:00Z"},
            "etl_beat": {},
            "etl_require_lease": {},
        }
        others = {"etl_start", "etl_finish", "etl_note_flow_run"}  # without the row of this token they do nothing
        takers = stack.query("select proname from pg_proc where proname ~ '^etl_' and 'p_token' = any (proargnames)")
        assert {*calls, *others} == {*takers.split()}
        for function, arguments in calls.items():
            with pytest.raises(LeaseLost):
                database.call(function, **stale, **arguments)


@both
def test_the_heartbeat_keeps_the_lease_and_notices_its_loss(stack: Stack, settings: Settings) -> None:
    settings = settings.model_copy(update={"lease_seconds": 2})
    with ledger_of(settings) as ledger:
        run = start(ledger, settings)
        with ledger.holding(run) as heartbeat:
            time.sleep(2.5)  # longer than the term
            with pytest.raises(LeaseHeld):
                start(ledger, settings)
            heartbeat.check()
            silence(stack, run)
            stack.query("update public.etl_runs set status = 'failed'")
            with pytest.raises(LeaseLost):
                _check_for(heartbeat, seconds=20)


@both
def test_a_batch_sent_twice_is_counted_once(stack: Stack, settings: Settings) -> None:
    row = {**post(1), "row_hash": "x", "created_at": AS_OF.isoformat(), "updated_at": AS_OF.isoformat()}
    with open_database(settings) as database:
        run = start(Ledger(database, settings), settings)
        held: dict[str, Any] = {"p_run": run.run_id, "p_token": run.token}
        batch: dict[str, Any] = {"p_batch": "posts/1", "p_table": "posts", "p_rows": [row], "p_limit": 1}
        answers = [database.call("etl_write", **held, **batch) for _ in range(2)]
        assert answers == [{"inserted": 1, "updated": 0, "refused": []}] * 2
        gone: dict[str, Any] = {"p_batch": "posts/gone", "p_table": "posts", "p_ids": [row["id"]]}
        assert [database.call("etl_delete", **held, **gone) for _ in range(2)] == [{"deleted": 1}] * 2
        facts: dict[str, Any] = {"p_facts": {"counts": {}, "refused": []}, "p_aggregates": {}}
        first, second = (database.call("etl_commit", **held, **facts) for _ in range(2))
        assert first == second
        assert rows_of(stack, "etl_batches") == []


@both
def test_a_run_that_failed_is_resumed_with_its_as_of(stack: Stack, settings: Settings) -> None:
    with ledger_of(settings) as ledger:
        dead = ledger.start(Start(AsOf.instant(days_before(2)), settings.resolved_transport))
        snapshot_at = datetime.now(UTC)
        ledger.fail(ledger.begin(dead, snapshot_at), WriteError("no luck"))
        back = Start(AsOf.instant(days_before(9)), settings.resolved_transport, historical=True, kind="restore")
        ledger.fail(ledger.start(back), WriteError("a restore is no night"))
        run = ledger.start(Start(AsOf("resume", AS_OF), settings.resolved_transport))
        assert (run.resumed_from, run.as_of) == (dead.run_id, days_before(2))
        over_rest = settings.resolved_transport == "rest"
        assert run.snapshot_at == (snapshot_at if over_rest else None)  # a snapshot dies with its run
        ledger.fail(ledger.begin(run, snapshot_at), WriteError("no luck"))
        other = ledger.start(Start(AsOf("resume", AS_OF), "postgres" if over_rest else "rest"))
        assert (other.resumed_from, other.snapshot_at) == (run.run_id, None)  # over another transport, too


@both
@pytest.mark.parametrize("why", ["too old", "committed since", "held", "of a backfill"])
def test_nothing_to_resume(stack: Stack, settings: Settings, why: str) -> None:
    with ledger_of(settings) as ledger:
        past = why == "of a backfill"
        dead = ledger.start(Start(AsOf.instant(days_before(2)), settings.resolved_transport, historical=past))
        if why == "held":
            ledger.hold(dead, WriteError("ask a person"))
        else:
            ledger.fail(dead, WriteError("no luck"))
        if why == "too old":
            stack.query("update public.etl_runs set started_at = now() - interval '3 days'")
        if why == "committed since":
            work(settings, Night(), as_of=days_before(3))
        run = ledger.start(Start(AsOf("resume", days_before(1)), settings.resolved_transport))
        assert (run.resumed_from, run.as_of) == (None, days_before(1))


@both
def test_what_as_of_means(stack: Stack, settings: Settings) -> None:
    snapshot_at = datetime.now(UTC)
    with ledger_of(settings) as ledger:
        now = ledger.start(Start(AsOf("now"), settings.resolved_transport))
        assert now.as_of is None
        assert ledger.begin(now, snapshot_at).as_of == snapshot_at
        ledger.fail(now, WriteError("enough"))
        midnight = ledger.start(Start(AsOf("midnight"), settings.resolved_transport))
        assert midnight.as_of == snapshot_at.replace(hour=0, minute=0, second=0, microsecond=0)
        ledger.fail(midnight, WriteError("enough"))
        future = ledger.start(Start(AsOf.instant(snapshot_at + timedelta(days=1)), settings.resolved_transport))
        with pytest.raises(ConfigurationError, match="later than the database's clock"):
            ledger.begin(future, snapshot_at)


@both
def test_what_a_failure_leaves_in_the_ledger(stack: Stack, settings: Settings) -> None:
    with ledger_of(settings) as ledger:
        run = start(ledger, settings)
        ledger.stage(run, "clean posts", seconds={"read posts": 2.5}, bytes={"read posts": 10})
        ledger.stage(run, "build reports", seconds={"clean posts": 1.5})
        ledger.fail(run, ValueError("jane@example.com wrote this"))
        row = ledger.run(run.run_id)
    assert row is not None
    assert (row.status, row.stage, row.error) == ("failed", "build reports", "ValueError")
    assert row.seconds == {"read posts": 2.5, "clean posts": 1.5}
    assert row.bytes == {"read posts": 10}


def _check_for(heartbeat: Heartbeat | NoHeartbeat, *, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        heartbeat.check()
        time.sleep(0.05)


def test_a_database_that_was_never_migrated_says_what_to_do(stack: Stack, tmp_path: Path) -> None:
    settings = settings_for(stack, "rest", tmp_path)
    with open_database(settings) as database, pytest.raises(ConfigurationError, match="make migrate"):
        database.call("etl_of_tomorrow")
