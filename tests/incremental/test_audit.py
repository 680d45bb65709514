"""What a full night finds that nobody should have done: what is there is not what the nights before it carried."""

from __future__ import annotations

import httpx
import pytest

from data.demo import DemoCounts
from flows.engine.report_page import mode_sentence
from tasks.errors import RunHeld, WriteError
from tasks.settings import Transport
from tests.incremental.kit import POISON, stored
from tests.pipeline.conftest import Runner
from tests.pipeline.kit import Project

TRANSPORTS: tuple[Transport, ...] = ("postgres", "rest")
BY_HAND = "update clean_posts set title = 'by hand' where id in (select id from clean_posts limit 1)"
LEFT_BY_HAND = "select count(*) from clean_posts where title = 'by hand'"


@pytest.mark.slow
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_full_night_finds_a_row_that_somebody_changed_by_hand(
    transport: Transport, project: Project, demo: DemoCounts, run: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where it does not hear so at once: over REST the answer that says so is lost."""
    send, lost = httpx.HTTPTransport.handle_request, list[bytes]()

    def losing(connection: httpx.HTTPTransport, request: httpx.Request) -> httpx.Response:
        answer = send(connection, request)
        if request.url.path.endswith("/etl_mark_wrong") and answer.read() != b"0":
            lost.append(answer.content)
            raise httpx.ReadError("The connection broke", request=request)
        return answer

    monkeypatch.setattr(httpx.HTTPTransport, "handle_request", losing)
    run(transport)
    project.stack.query(BY_HAND)
    assert run(transport).mode == "incremental", "whose fingerprint is the stored one: nothing to see"
    full = run(transport, full_refresh=True)
    assert full.drifted == 1
    assert lost == ([b"1"] if transport == "rest" else [])
    assert "1 rows differ" in mode_sentence(full)
    assert any("drifted" in note for note in full.notes)
    assert project.stack.query(LEFT_BY_HAND) == "0", "it is right again"
    assert run(transport, full_refresh=True).drifted == 0


def test_a_held_night_leaves_rows_that_somebody_changed_by_hand_as_they_are(
    project: Project, demo: DemoCounts, run: Runner
) -> None:
    """It took their hash before it was held, though it said that nothing was written."""
    run()
    project.stack.query(BY_HAND)
    project.stack.query("delete from posts where id in (select id from clean_posts where title <> 'by hand' limit 900)")
    stored_before = stored(project)
    with pytest.raises(RunHeld, match="posts_deletes") as held:
        run(full_refresh=True)
    assert "Nothing was published or written" in held.value.remedy
    assert stored(project) == stored_before
    assert run(full_refresh=True, accept=held.value.values.keys()).drifted == 1
    assert project.stack.query(LEFT_BY_HAND) == "0"


@pytest.mark.slow
def test_a_full_night_that_fails_once_it_has_marked_such_rows_says_so_and_the_next_one_puts_them_right(
    project: Project, demo: DemoCounts, run: Runner
) -> None:
    """It said that no row changed. What it marked is no harm to the nights between."""
    run()
    project.stack.query("update clean_users set name = 'by hand' where id in (select id from clean_users limit 1)")
    project.stack.query("update posts set content = 'other' where id in (select id from clean_posts limit 1)")
    project.stack.query(POISON)
    with pytest.raises(WriteError) as failed:
        run(full_refresh=True, ETL_MAX_REFUSED_SHARE="0")
    project.stack.query("drop function poison cascade")
    assert "1 rows that somebody changed by hand are marked" in failed.value.written
    assert run().mode == "incremental"
    assert run(full_refresh=True).drifted == 1
    assert project.stack.query("select count(*) from clean_users where name = 'by hand' or row_hash = ''") == "0"


# What an incremental night would have missed: a post that went, and the rules that a user counts for.
_UNSEEN = """
delete from posts where id = (select id from posts order by id limit 1);
delete from clean_posts where id not in (select id from posts);
update clean_users set rule_mask = rule_mask # 2"""


def test_tables_that_were_empty_have_not_drifted_when_they_are_filled(project: Project, run: Runner) -> None:
    """A product before its first posts: the first month with some was taken for one that somebody had changed. What a
    night has missed counts, of each kind."""
    project.stack.query("insert into users (created_at) values ('2026-01-01')")
    run()
    project.stack.query(
        "insert into posts (user_id, created_at) select id, created_at from users, generate_series(1, 2)"
    )
    assert run(full_refresh=True).drifted == 0
    project.stack.query(_UNSEEN)
    assert run(full_refresh=True).drifted == 3, "the posts read, a month's file, a rule of the users; no row differs"


def test_what_depends_on_a_changed_row_has_not_drifted(project: Project, demo: DemoCounts, run: Runner) -> None:
    run()
    project.stack.query(
        "update users set created_at = created_at - interval '2 days' "
        "where id in (select user_id from clean_posts limit 9); "
        "delete from users where id in (select duplicate_of from clean_users where duplicate_of is not null "
        "and duplicate_of not in (select user_id from posts where user_id is not null) limit 1); "
        "insert into users (email, created_at) select email, '2000-01-01' from clean_users "
        "where email is not null and duplicate_of is null limit 1"
    )
    full = run(full_refresh=True)
    assert full.drifted == 0
