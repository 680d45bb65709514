"""A run is never in its own way: later attempts replace earlier ones, resume them by name, and wait for others."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from local_stack import Stack
from tasks.errors import LeaseHeld, LeaseLost, WriteError
from tasks.ledger.as_of import AsOf
from tasks.ledger.lease import Lease
from tasks.ledger.ledger import Ledger, Start
from tasks.platform.functions import Transaction, open_database
from tasks.platform.postgres import connect
from tasks.settings import Settings, Transport
from tests.sink.kit import AS_OF, TRANSPORTS, days_before, empty, settings_for

both = pytest.mark.parametrize("transport", TRANSPORTS)


@pytest.fixture
def settings(stack: Stack, tmp_path: Path, transport: Transport) -> Settings:
    empty(stack)
    stack.query("truncate public.etl_waiting")
    return settings_for(stack, transport, tmp_path)


@contextmanager
def ledger_of(settings: Settings) -> Iterator[Ledger]:
    with open_database(settings) as database:
        yield Ledger(database, settings)


def start(settings: Settings, as_of: AsOf = AsOf("midnight"), **more: object) -> Start:  # noqa: B008 - it is frozen
    return Start(as_of, settings.resolved_transport, **more)  # type: ignore[arg-type]


@both
def test_a_later_attempt_replaces_the_earlier_one_at_once(stack: Stack, settings: Settings) -> None:
    with ledger_of(settings) as ledger:
        first = start(settings)
        ghost = ledger.start(first)
        with pytest.raises(LeaseHeld, match=ghost.run_id):
            ledger.start(start(settings))
        lease = ledger.start(start(settings, earlier=(first.ticket,)))
        assert lease.run_id != ghost.run_id
        with pytest.raises(LeaseLost):
            ledger.stage(ghost, "load")
        row = ledger.run(ghost.run_id)
    assert row is not None
    assert row.status == "failed"
    assert lease.run_id in (row.error or "")


@both
def test_it_has_the_as_of_of_the_earlier_one_also_past_midnight(stack: Stack, settings: Settings) -> None:
    with ledger_of(settings) as ledger:
        first = start(settings, AsOf("midnight", days_before(2)))
        dead = ledger.start(first)
        ledger.fail(dead, WriteError("no luck"))
        again = ledger.start(start(settings, AsOf("midnight", days_before(1)), earlier=(first.ticket,)))
    assert (again.as_of, again.as_of_mode, again.resumed_from) == (days_before(2), "midnight", dead.run_id)


@both
def test_a_now_that_died_before_it_read_is_now_again(stack: Stack, settings: Settings) -> None:
    with ledger_of(settings) as ledger:
        first = start(settings, AsOf("now"))
        ledger.fail(ledger.start(first), WriteError("no luck"))
        again = ledger.start(start(settings, AsOf("now"), earlier=(first.ticket,)))
    assert (again.as_of, again.as_of_mode) == (None, "now")


@both
def test_an_attempt_that_never_reached_the_ledger_is_not_resumed(stack: Stack, settings: Settings) -> None:
    """A `resume` whose first request for the lease met an outage was as of midnight; a `now`, of another now."""
    lost = start(settings).ticket
    with ledger_of(settings) as ledger:
        first = start(settings, AsOf("now"))
        dead = ledger.begin(ledger.start(first), days_before(4))
        ledger.fail(dead, WriteError("no luck"))
        again = ledger.start(start(settings, AsOf("now"), earlier=(first.ticket, lost)))
        assert (again.as_of, again.resumed_from) == (days_before(4), dead.run_id)
        ledger.fail(again, WriteError("no luck"))
        resumed = ledger.start(start(settings, AsOf("resume", AS_OF), earlier=(lost,)))
    assert (resumed.as_of, resumed.resumed_from) == (days_before(4), again.run_id)


@both
def test_a_resume_names_its_run(stack: Stack, settings: Settings) -> None:
    with ledger_of(settings) as ledger:
        for days, who in ((5, "the night"), (3, "somebody")):
            ledger.fail(
                ledger.start(start(settings, AsOf.instant(days_before(days)), started_by=who)), WriteError("no")
            )
        last = ledger.start(start(settings, AsOf("resume", AS_OF)))
        assert last.as_of == days_before(3), "a person's `resume` takes the last one"
        ledger.fail(last, WriteError("no"))
        assert ledger.start(
            start(settings, AsOf("resume", AS_OF), resume_runs=("lost", "the night"))
        ).as_of == days_before(5)


@both
def test_a_restarted_resume_that_died_before_the_ledger_knew_it_has_the_as_of_that_it_was_to_have(
    stack: Stack, settings: Settings
) -> None:
    """It had that of midnight."""
    with ledger_of(settings) as ledger:
        ledger.fail(
            ledger.start(start(settings, AsOf.instant(days_before(3)), started_by="somebody")), WriteError("no")
        )
        asked = start(settings, AsOf("resume", AS_OF), resume_runs=("lost",))
        assert ledger.start(asked).as_of == days_before(3)


def test_who_holds_the_lease_in_the_middle_of_a_load_is_reported_at_once(stack: Stack, tmp_path: Path) -> None:
    empty(stack)
    settings = settings_for(stack, "postgres", tmp_path)
    with ledger_of(settings) as ledger:
        holder = ledger.start(start(settings))
        connection = connect(settings, autocommit=False)
        with connection:
            Transaction(connection).call(
                "etl_stage", p_run=holder.run_id, p_token=holder.token, p_stage="load", p_figures={}
            )
            started = time.monotonic()
            with pytest.raises(LeaseHeld, match=holder.run_id):
                ledger.start(start(settings))
        assert time.monotonic() - started < 60


def test_an_unresponsive_holder_whose_load_still_has_its_rows_is_reported_too(stack: Stack, tmp_path: Path) -> None:
    empty(stack)
    settings = settings_for(stack, "postgres", tmp_path)
    with ledger_of(settings) as ledger:
        first = start(settings)
        holder = ledger.start(first)
        stack.query("update public.etl_runs set heartbeat = now() - interval '1 hour'")
        with connect(settings, autocommit=False) as connection:
            Transaction(connection).call(
                "etl_stage", p_run=holder.run_id, p_token=holder.token, p_stage="load", p_figures={}
            )
            for asking in (start(settings), start(settings, earlier=(first.ticket,))):
                with pytest.raises(LeaseHeld):
                    ledger.start(asking)


@both
def test_one_that_yields_lets_the_waiting_one_go_first(stack: Stack, settings: Settings) -> None:
    with ledger_of(settings) as ledger, ledger_of(settings) as other:
        holder = ledger.start(start(settings))
        got: list[str] = []
        waiting = threading.Thread(target=lambda: got.append(other.start(start(settings, wait=60)).run_id))
        waiting.start()
        deadline = time.monotonic() + 30
        while stack.query("select count(*) from public.etl_waiting") != "1":
            assert time.monotonic() < deadline
        ledger.fail(holder, WriteError("done"))
        with pytest.raises(LeaseHeld, match=r"goes first|has held"):
            ledger.start(start(settings, yields=True))
        waiting.join(60)
        assert got
        assert stack.query("select count(*) from public.etl_waiting") == "0"


@both
def test_a_call_that_is_sent_again_while_the_first_is_carried_out_gets_its_lease(
    stack: Stack, settings: Settings
) -> None:
    """The answer to the first is lost on its way: the second was declined, and named its own run as the holder."""
    asked = start(settings)
    facts = json.dumps({"transport": "rest", "as_of_mode": "now", "lease_seconds": 120, "resume_within": 0})
    first = "select public.etl_start(%s, %s, %s)", (asked.ticket.run_id, asked.ticket.token, facts)
    with psycopg.connect(stack.db_url) as slow, ledger_of(settings) as ledger:
        slow.execute(*first)
        got: list[Lease] = []
        again = threading.Thread(target=lambda: got.append(ledger.start(asked)))
        again.start()
        again.join(1)
        assert again.is_alive()
        slow.commit()
        again.join(60)
    assert [lease.run_id for lease in got] == [asked.ticket.run_id]


@both
def test_who_waited_by_a_clock_that_was_set_back_is_in_nobody_s_way(stack: Stack, settings: Settings) -> None:
    stack.query("insert into public.etl_waiting values ('of-before', now() + interval '1 hour')")
    with ledger_of(settings) as ledger:
        assert ledger.start(start(settings, yields=True))


@both
def test_one_that_waited_and_gave_up_is_in_nobody_s_way(stack: Stack, settings: Settings) -> None:
    stack.query("insert into public.etl_waiting values ('gave-up', now() - interval '20 seconds')")
    with ledger_of(settings) as ledger:
        assert ledger.start(start(settings, yields=True))
