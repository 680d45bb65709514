"""A row that the database refuses costs itself only, whatever refuses it, and nothing of it is repeated."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from local_stack import Stack
from tasks.contracts import POSTS, USERS
from tasks.errors import WriteError
from tasks.settings import Transport
from tasks.sink import LoadCounts
from tasks.sink.refused import contributions
from tasks.workspace import Workspace
from tests.sink.kit import (
    TRANSPORTS,
    Night,
    clean_rows,
    empty,
    expected_state,
    hashes,
    post,
    rows_of,
    settings_for,
    user,
    uuid,
    versions,
    wanted,
    work,
)

both = pytest.mark.parametrize("transport", TRANSPORTS)
POISON = "poison of jane@example.com"
TRIGGER = """
create function public.refuse() returns trigger language plpgsql as $$
begin
  if new.title = '{poison}' then {answer}; end if;
  return new;
end $$;
create {kind} trigger refuse {when} insert or update on public.clean_posts {deferred}
for each row execute function public.refuse();
"""
KEEPING = f"""
create function public.refuse() returns trigger language plpgsql as 'begin return null; end';
create trigger refuse before delete on public.clean_posts
for each row when (old.title = '{POISON}') execute function public.refuse();
"""
TRIGGER_GONE = "drop trigger refuse on public.clean_posts; drop function public.refuse()"


def trigger(
    kind: str = "", when: str = "before", deferred: str = "", using: str = "", answer: str = ""
) -> tuple[str, str]:
    answer = answer or f"raise exception 'no % please', new.title {using}"
    return TRIGGER.format(poison=POISON, kind=kind, when=when, deferred=deferred, answer=answer), TRIGGER_GONE


REFUSALS = {
    "a check": (
        f"alter table public.clean_posts add constraint no_poison check (title <> '{POISON}')",
        "alter table public.clean_posts drop constraint no_poison",
        "SQLSTATE 23514",
    ),
    "a type": (
        "alter table public.clean_posts alter column title type varchar(20)",
        "alter table public.clean_posts alter column title type text",
        "SQLSTATE 22001",
    ),
    "a trigger": (*trigger(), "SQLSTATE P0001"),
    "a trigger with a code of its own": (*trigger(using="using errcode = 'PT409'"), "SQLSTATE PT409"),
    "a trigger without an error": (*trigger(answer="return null"), "SQLSTATE 09000"),
    "a deferred trigger": (
        *trigger("constraint", "after", "deferrable initially deferred", "using errcode = 'check_violation'"),
        "SQLSTATE 23514",
    ),
}


@contextmanager
def refusing(stack: Stack, name: str) -> Iterator[str]:
    """Posts with the poison are refused; the SQLSTATE with which."""
    begin, end, code = REFUSALS[name]
    stack.query(begin)
    try:
        yield code
    finally:
        stack.query(end)


@both
@pytest.mark.parametrize("refusal", REFUSALS)
def test_only_the_poisoned_rows_are_refused(stack: Stack, tmp_path: Path, transport: Transport, refusal: str) -> None:
    empty(stack)
    setup = settings_for(stack, transport, tmp_path, write_rows=8)
    old = [post(n) for n in range(1, 20)]
    work(setup, Night(posts=old))
    new = [post(n, content="new", title=POISON if n in (3, 12, 33) else "fine") for n in range(1, 41)]
    with refusing(stack, refusal) as code:
        counts = work(setup, Night(posts=new)).counts["posts"]
    assert (counts.inserted, counts.updated, counts.unchanged, counts.refused) == (20, 17, 0, 3)
    kept_old = [row for row in old if row["id"] in (uuid(3), uuid(12))]
    assert hashes(stack, POSTS) == wanted(POSTS, [r for r in new if r["title"] != POISON] + kept_old)
    rejects = rows_of(stack, "etl_rejects")
    assert {r["key"] for r in rejects} == {uuid(3), uuid(12), uuid(33)}
    assert {(r["rule"], r["came"]) for r in rejects} == {("refused_by_database", code)}
    assert "jane" not in repr(rejects) + stack.query("select * from public.etl_runs")


@both
def test_a_refused_row_is_tried_every_night_until_it_is_taken(
    stack: Stack, tmp_path: Path, transport: Transport
) -> None:
    empty(stack)
    setup = settings_for(stack, transport, tmp_path)
    night = Night(posts=[post(n, title=POISON if n == 5 else "fine") for n in range(1, 10)])
    with refusing(stack, "a check"):
        first = work(setup, night).run.run_id
        before = versions(stack)
        again = work(setup, night)
        assert again.counts["posts"].refused == 1
        assert versions(stack) == before
        (kept,) = rows_of(stack, "etl_rejects")
        assert (kept["first_run"], kept["last_run"]) == (first, again.run.run_id)
    assert work(setup, night).counts["posts"].inserted == 1
    assert rows_of(stack, "etl_rejects") == []
    expected_state(stack, night)


@pytest.mark.parametrize(
    ("transport", "refusal"),
    [("rest", "a trigger"), ("postgres", "a trigger"), ("postgres", "a trigger without an error")],
)
def test_more_refused_rows_than_are_tolerated_fail_the_run(
    stack: Stack, tmp_path: Path, transport: Transport, refusal: str
) -> None:
    empty(stack)
    setup = settings_for(stack, transport, tmp_path, max_refused_share=0.1)
    poisoned = Night(posts=[post(n, title=POISON if n % 4 == 0 else "fine") for n in range(1, 41)])
    with refusing(stack, refusal), pytest.raises(WriteError) as caught:
        work(setup, poisoned)
    assert "refused" in caught.value.message
    assert "are tolerated, the last" in caught.value.message
    assert "ETL_MAX_REFUSED_SHARE" in str(caught.value)
    assert "jane" not in str(caught.value)
    if transport == "postgres":
        assert rows_of(stack, "clean_posts") == []
    assert rows_of(stack, "user_statistics") == []


@both
@pytest.mark.parametrize(("share", "tolerated"), [(0.1, 4), (0.001, 1), (0, 0)])
def test_as_many_refused_rows_as_are_tolerated_fail_no_run(
    stack: Stack, tmp_path: Path, transport: Transport, share: float, tolerated: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A share of the kept rows, written or not, in all of the load's batches together; one row unless it is zero."""
    monkeypatch.setattr("tasks.sink.postgres.STAGED_ROWS", 7)
    setup = settings_for(stack, transport, tmp_path, write_rows=7, max_refused_share=share)
    unchanged = [post(n) for n in range(31, 41)]
    for more in (0, 1):
        empty(stack)
        work(setup, Night(posts=[*unchanged, *(post(n, title="before") for n in (1, 2, 3))]))
        bad = {7 * n for n in range(tolerated + more)}
        night = Night(posts=[*unchanged, *(post(n, title=POISON if n in bad else "fine") for n in range(30))])
        with refusing(stack, "a check"):
            if more:
                with pytest.raises(WriteError, match="are tolerated"):
                    work(setup, night)
            else:
                assert work(setup, night).counts["posts"].refused == tolerated


@both
def test_rows_of_ours_may_refer_to_each_other(stack: Stack, tmp_path: Path, transport: Transport) -> None:
    """A foreign key of the product's own: users come before their posts, and go after them."""
    empty(stack)
    setup, reference = settings_for(stack, transport, tmp_path), "clean_posts add constraint of_ours foreign key"
    stack.query(f"alter table public.{reference} (user_id) references public.clean_users")
    try:
        for number in (1, 2):
            night = Night([user(number)], [post(n, user_id=uuid(number)) for n in range(20 * number, 20 * number + 9)])
            assert work(setup, night).counts["posts"] == LoadCounts(9, 0, 0, 9 if number > 1 else 0, 0)
    finally:
        stack.query("alter table public.clean_posts drop constraint of_ours")


@both
def test_a_trigger_that_keeps_what_left_the_source_fails_the_run(
    stack: Stack, tmp_path: Path, transport: Transport
) -> None:
    empty(stack)
    setup = settings_for(stack, transport, tmp_path)
    work(setup, Night(posts=[post(n, title=POISON if n in (2, 3) else "fine") for n in range(1, 10)]))
    stack.query(KEEPING)
    try:
        with pytest.raises(
            WriteError,
            match=r"etl_delete of posts was refused: a trigger keeps rows of public\.clean_posts that left the source",
        ):
            work(setup, Night())
    finally:
        stack.query(TRIGGER_GONE)


@both
def test_one_in_a_thousand(stack: Stack, tmp_path: Path, transport: Transport) -> None:
    empty(stack)
    setup = settings_for(stack, transport, tmp_path, write_rows=2_000, max_refused_share=0.01)
    night = Night(posts=[post(n, title=POISON if n % 1000 == 500 else "fine") for n in range(5_000)])
    with refusing(stack, "a trigger"):
        counts = work(setup, night, rows_in_batch=3_000).counts["posts"]
    assert (counts.inserted, counts.refused) == (4_995, 5)
    assert len(rows_of(stack, "etl_rejects")) == 5


def test_a_refused_row_may_lack_the_instant_that_a_further_table_need_not_have(tmp_path: Path) -> None:
    columns = tuple(replace(c, nullable=True) if c.name == "created_at" else c for c in USERS.columns)
    table = replace(USERS, name="letters", columns=columns)
    spool = Workspace.create(tmp_path, "run").spool("changes", table.name, table.clean_schema)
    spool.write(0, clean_rows(table, [user(1, created_at=None)]).to_batches())
    assert contributions(spool, table, [uuid(1)]) == {uuid(1): {"rule_mask": None, "in_file": {}}}
