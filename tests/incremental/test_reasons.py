"""Each reason to read everything, said in words."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest

from data.demo import DemoCounts
from flows.engine.report_page import mode_sentence
from tasks.errors import ProofFailed, WriteError
from tasks.publish.restore import restore
from tasks.settings import Transport
from tests.incremental.kit import POISON
from tests.pipeline.conftest import Runner
from tests.pipeline.kit import Project

TRANSPORTS: tuple[Transport, ...] = ("postgres", "rest")


def _delete_file(project: Project, part: str) -> None:
    latest = project.latest()
    assert latest is not None
    path = next(file["path"] for file in project.manifest()["files"] if part in file["path"])
    project.bucket.remove([f"{latest['run']}/{path}"])


def _damage_file(project: Project) -> None:
    latest = project.latest()
    assert latest is not None
    path = next(file["path"] for file in project.manifest()["files"] if file["path"].startswith("clean/posts/"))
    project.bucket.replace(f"{latest['run']}/{path}", b"something else")


def _forget_manifest(project: Project) -> None:
    latest = project.latest()
    assert latest is not None
    project.bucket.remove([latest["manifest"]])


def _leave_base_behind(project: Project) -> None:
    """As a commit while the trigger was gone leaves it."""
    committed = "select run_id from etl_runs where status = 'committed' order by current_at desc offset 1 limit 1"
    project.stack.query(f"update etl_base set run_id = ({committed})")


# Of a post that changes, what an incremental night takes from our tables is not what was stored.
_BY_HAND = (
    ("update clean_posts set rule_mask = null where id = '{post}'", "stored without the rules that changed them"),
    (
        'insert into etl_reject_rows ("table", id, key, rule, first_run, rule_mask) '
        "select 'posts', rule, '{post}', rule, '', 0 from unnest(array['one', 'other']) rule",
        "rows of posts have more than one reject",
    ),
    ("delete from clean_posts where id = '{post}'", "the figures of posts do not agree"),
    ("delete from etl_reject_rows where \"table\" = 'posts' and rule = 'orphan'", "the figures of posts do not agree"),
    ("update clean_posts set created_at = '2025-01-01Z' where id = '{post}'", "the figures of posts do not agree"),
)
_NOTHING_FOUND = """
alter function etl_find_few_changes(text, jsonb, text, text, jsonb) rename to find_few_changes;
create function etl_find_few_changes(p_table text, p_source jsonb, p_after text, p_until text, p_most jsonb)
returns jsonb language sql stable as $$
  select find_few_changes(p_table, p_source, p_after, p_until, p_most) || jsonb_build_object('changed', '[]'::jsonb)
$$;
update posts set content = 'not found' where id in (select id from clean_posts limit 1)"""
_FOUND_AGAIN = """
drop function if exists etl_find_few_changes(text, jsonb, text, text, jsonb);
alter function find_few_changes(text, jsonb, text, text, jsonb) rename to etl_find_few_changes"""
_FORGET_BASE = "delete from etl_runs where run_id in (select run_id from etl_base)"


def _by_hand(statement: str, project: Project) -> None:
    post = project.stack.query("select id from clean_posts order by id desc limit 1")
    project.stack.query(
        f"{statement.format(post=post)}; update posts set created_at = created_at - interval '40 days' "
        f"where id = '{post}'"
    )


# What happens, the night's options, and what it says: one after the other, each full night is the next one's base.
REASONS: tuple[tuple[Callable[[Project], Any], dict[str, Any], str], ...] = (
    (lambda p: None, {"full_refresh": True}, "asked for"),
    (lambda p: _delete_file(p, "clean/posts/"), {}, "is not in the bucket any more"),
    (lambda p: _delete_file(p, "state/"), {}, "is not in the bucket any more"),
    (_damage_file, {}, "is damaged"),
    (_forget_manifest, {}, "is not in the bucket any more"),
    (lambda p: None, {"ETL_PART_ROWS": 1_000}, "file settings changed"),
    (lambda p: None, {}, "file settings changed"),
    (
        lambda p: p.stack.query("alter table users alter column name type varchar(500)"), {}, "changed their type",
    ),
    (lambda p: p.stack.query("update etl_seed set id = gen_random_uuid(), seed = seed + 1"), {}, "seed"),
    (lambda p: p.stack.query("update posts set content = content || '.'"), {}, "more than 10% of posts"),
    (lambda p: None, {"ETL_FULL_REFRESH_DAYS": 0}, "days old or older"),
    *((partial(_by_hand, statement), {}, words) for statement, words in _BY_HAND),
    (lambda p: p.stack.query(_NOTHING_FOUND), {}, "posts at the source and as stored do not agree"),
    (lambda p: p.stack.query(f"{_FOUND_AGAIN}; {_FORGET_BASE}"), {}, "is not in the ledger any more"),
    (_leave_base_behind, {}, "a later run was committed"),
)  # fmt: skip


def test_a_night_is_full_and_says_why(project: Project, demo: DemoCounts, run: Runner) -> None:
    night = run()
    try:
        for happens, options, words in REASONS:
            happens(project)
            before, night = night, run(**{"ETL_PART_ROWS": 500_000, "ETL_FULL_REFRESH_DAYS": 7, **options})
            assert night.mode == "full", words
            assert words in str(night.full_because)
            assert words in mode_sentence(night)
            manifest = project.manifest()
            assert (manifest["mode"], manifest["full_because"]) == ("full", night.full_because)
            counts = json.loads(project.stack.query(f"select counts from etl_runs where run_id = '{night.run_id}'"))
            assert (counts["mode"], counts["full_because"]) == ("full", night.full_because)
        restore(project.settings("rest"), before.run_id)  # what readers see is no reason
        assert run(ETL_FULL_REFRESH_DAYS=7).base_run == night.run_id
    finally:
        project.stack.query("alter table users alter column name type text")
        if project.stack.query("select to_regproc('public.find_few_changes')"):
            project.stack.query(_FOUND_AGAIN)


def test_a_load_over_rest_that_broke_off_makes_the_next_nights_full(
    project: Project, demo: DemoCounts, run: Runner
) -> None:
    run("rest")
    project.stack.query(
        f"update posts set content = 'other' where id in (select id from clean_posts limit 3); {POISON}"
    )
    try:
        with pytest.raises(WriteError):
            run("rest", ETL_MAX_REFUSED_SHARE=0, ETL_RUN_RETRIES=0)
    finally:
        project.stack.query("drop function poison cascade")
    with pytest.raises(Exception, match="later than the database"):  # a second failure, before anything is written
        run("rest", as_of="2199-01-01T00:00:00+00:00")
    night = run("rest")
    assert night.full_because == "an earlier run broke off while it wrote rows"
    assert run("rest").mode == "incremental"


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_rows_that_are_not_stored_as_they_were_read_are_not_committed(
    transport: Transport, project: Project, demo: DemoCounts, run: Runner
) -> None:
    """A product's trigger on our table that writes something else: found after the load, and read whole next."""
    first = run(transport)
    project.stack.query(
        "update posts set content = 'other' where id in (select id from clean_posts limit 3); "
        "create function spoil() returns trigger language plpgsql as $$ begin "
        "new.fingerprint := new.fingerprint + 1; return new; end $$; "
        "create trigger spoil before update on clean_posts for each row execute function spoil()"
    )
    try:
        with pytest.raises(ProofFailed, match="of other fingerprints"):
            run(transport, ETL_RUN_RETRIES=0)
    finally:
        project.stack.query("drop function spoil cascade")
    assert project.latest() is not None
    assert project.manifest()["run_id"] == first.run_id
    with _kept_out(project):
        full, night = run(transport), run(transport)
    assert full.full_because == "an earlier run broke off while it wrote rows"
    assert night.mode == "incremental"
    assert [outcome.tables["posts"]["refused"] for outcome in (full, night)] == [1, 1], "said, and tried every night"


@contextmanager
def _kept_out(project: Project) -> Iterator[None]:
    """A product's trigger on our table that keeps a row out, which changed, and says nothing."""
    project.stack.query(
        "update posts set title = 'keep it out' where id in (select id from clean_posts limit 1); "
        "create function keep_out() returns trigger language plpgsql as $$ begin "
        "return case when new.title is distinct from 'keep it out' then new end; end $$; "
        "create trigger keep_out before insert or update on clean_posts for each row execute function keep_out()"
    )
    try:
        yield
    finally:
        project.stack.query("drop function keep_out cascade")


def test_a_transaction_that_was_rolled_back_leaves_the_base_as_it_was(
    project: Project, demo: DemoCounts, run: Runner
) -> None:
    first = run()
    project.stack.query(
        f"update posts set content = 'other' where id in (select id from clean_posts limit 3); {POISON}"
    )
    try:
        with pytest.raises(WriteError):
            run(ETL_MAX_REFUSED_SHARE=0, ETL_RUN_RETRIES=0)
    finally:
        project.stack.query("drop function poison cascade")
    night = run()
    assert (night.mode, night.base_run) == ("incremental", first.run_id)
    assert night.tables["posts"]["updated"] == 3


def test_a_run_for_a_past_instant_reads_everything_and_is_no_base(
    project: Project, demo: DemoCounts, run: Runner
) -> None:
    first = run()
    past = run(as_of="2025-12-24T00:00:00+00:00")
    assert past.full_because == "a run for a past instant reads everything"
    assert run().base_run == first.run_id
