"""What a database says when a value of a row fails: it may quote the row, and no message, log or ledger repeats it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from data.demo import DemoCounts
from tasks.contracts import USERS
from tasks.errors import PipelineError
from tasks.settings import Transport
from tests.pipeline.conftest import Runner
from tests.pipeline.kit import Project

SECRET = "CANARY"
_VIEW = """
alter table users rename to people;
create function own_words(name text) returns timestamptz language plpgsql stable as
  $$ begin raise exception 'no date in %', name; end $$;
update people set name = translate(:'name', '|', chr(10)) where id in (select id from people order by id limit 1);
create view users as select {columns},
  case when name like '%CANARY%' then {fails} else updated_at end as updated_at from people;
grant select on users to etl, service_role
"""
_BACK = "drop view users; drop function own_words(text); alter table people rename to users"


@contextmanager
def a_row_that_fails(project: Project, name: str, fails: str) -> Iterator[None]:
    """The source is a view that cannot compute a value of one row. name: of that row, with | for the end of a line."""
    columns = ", ".join(column.source_name for column in USERS.source_columns if column.name != "updated_at")
    project.stack.query(_VIEW.format(columns=columns, fails=fails), {"name": name})
    try:
        yield
    finally:
        project.stack.query(_BACK)


@pytest.mark.parametrize("transport", ["postgres", "rest"])
@pytest.mark.parametrize(
    ("name", "fails", "known"),
    [
        (f'Ann "{SECRET}" Smith', "name::timestamptz", True),
        (f"{SECRET}: 'a line|and another {SECRET}", "name::timestamptz", True),
        (f"Ann {SECRET}", "own_words(name)", False),
    ],
    ids=["quotes", "lines", "a function's words"],
)
def test_a_value_that_fails_is_reported_without_itself(
    transport: Transport, name: str, fails: str, known: bool, project: Project, demo: DemoCounts, run: Runner,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    with a_row_that_fails(project, name, fails), pytest.raises(PipelineError) as caught:
        run(transport, ETL_RUN_RETRIES=0, ETL_RETRIES=1, ETL_TRUSTED_FUNCTIONS="public.own_words")
    said = f"{caught.value.message} {caught.value.remedy}"
    assert SECRET not in said + caplog.text + project.stack.query("select array_agg(r)::text from etl_runs r")
    if known:
        assert "invalid input syntax for type timestamp with time zone" in said
        assert "Tried" not in said, "it stays as it is"
        assert "view" in caught.value.remedy
