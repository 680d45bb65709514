"""Contracts and database that went apart: refused before anything is read, with the command that fixes it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from deploy.migrations import migrate
from deploy.migrations.difference import statements
from deploy.migrations.files import last_shape
from deploy.migrations.shape import Shape, wanted_shape
from tasks.errors import ConfigurationError
from tasks.settings import Transport
from tasks.sink.schema import RELEASE
from tests.pipeline.conftest import Runner
from tests.pipeline.kit import Project

_RELEASE = (
    """do $$ begin execute replace(pg_get_functiondef('public.etl_release()'::regprocedure), '{}', '{}'); end $$"""
)
# Statement, its reverse, and what the refusal names.
DRIFT = {
    "a cleaned table lacks a column": (
        "alter table clean_posts rename column word_count to words",
        "alter table clean_posts rename column words to word_count",
        "clean_posts has no column word_count",
    ),
    "a cleaned table has one more": (
        "alter table clean_users add column mood text",
        "alter table clean_users drop column mood",
        "clean_users has a column mood that the contracts lack",
    ),
    "a column of another type": (
        "alter table clean_posts alter column char_count type integer",
        "alter table clean_posts alter column char_count type bigint",
        "clean_posts.char_count is integer, the contracts say bigint",
    ),
    "a column that refuses nulls": (
        "alter table clean_users alter column bio set not null",
        "alter table clean_users alter column bio drop not null",
        "clean_users.bio refuses nulls",
    ),
    "an aggregate lacks a column": (
        "alter table daily_activity rename column words to word_total",
        "alter table daily_activity rename column word_total to words",
        "daily_activity has no column words",
    ),
    "an aggregate has one that it must have": (
        "alter table user_statistics add column karma int not null",
        "alter table user_statistics drop column karma",
        "user_statistics has a column karma",
    ),
    "migrations of this version are missing": (
        _RELEASE.format(RELEASE, "20261125000000"),
        _RELEASE.format("20261125000000", RELEASE),
        "the database lacks migrations that this version comes with",
    ),
    "the rejects lack a column": (
        "alter table etl_reject_rows rename column expected to wanted",
        "alter table etl_reject_rows rename column wanted to expected",
        "etl_reject_rows has no column expected",
    ),
}


@pytest.mark.parametrize("transport", ["rest", "postgres"])
@pytest.mark.parametrize("drift", DRIFT)
def test_drift_is_refused_before_anything_is_read(
    project: Project, run: Runner, drift: str, transport: Transport
) -> None:
    statement, reverse, said = DRIFT[drift]
    project.stack.query(statement)
    try:
        with pytest.raises(ConfigurationError) as caught:
            run(transport)
    finally:
        project.stack.query(reverse)
    assert said in caught.value.message
    assert "Nothing was read" in caught.value.message
    assert ("`make migration`" in caught.value.remedy) == ("lacks migrations" not in said)
    assert "`make migrate`" in caught.value.remedy
    fix = reverse.replace("table ", "table public.") + ";"
    assert caught.value.remedy.replace('"', "").endswith(fix) == ("has a column" in said)
    stages = json.loads(project.stack.query("select coalesce(json_agg(seconds), '[]') from etl_runs"))
    assert [name for of in stages for name in of] == ["Check sources"]
    assert project.latest() is None


def without(shape: Shape, table: str, column: str) -> Shape:
    columns = {name: of for name, of in shape[table].columns.items() if name != column}
    return {**shape, table: replace(shape[table], columns=columns)}


@pytest.mark.parametrize("transport", ["rest", "postgres"])
def test_a_column_that_was_lost_comes_back_with_its_values(project: Project, run: Runner, transport: Transport) -> None:
    """The column was never filled while the hashes covered it: the migration that adds it makes every row differ."""
    stack = project.stack
    stack.query(
        "insert into users (name) values ('Ann'); insert into posts (user_id, content) select id, 'a b' from users"
    )
    stack.query(
        "update posts set created_at = now() - interval '1 day';update users set created_at = now() - interval '2 days'"
    )
    run(transport, as_of="now")
    before = stack.query("select id, word_count from clean_posts")
    stack.query("alter table clean_posts drop column word_count")
    for statement in statements(without(last_shape(), "clean_posts", "word_count"), wanted_shape()):
        stack.query(statement)
    assert migrate(stack.db_url) == []
    assert stack.query("select count(word_count) from clean_posts") == "0"
    assert run(transport, as_of="now").tables["posts"]["updated"] == 1
    assert stack.query("select id, word_count from clean_posts") == before
    stack.query("alter table clean_posts alter column word_count set not null")
