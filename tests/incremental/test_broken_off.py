"""A night that ends before its commit: what it leaves, and what the next start makes of that."""

from __future__ import annotations

import logging

import pytest

from data.demo import DemoCounts
from tasks.errors import LeaseLost, PipelineError
from tasks.publish.upload import FILES_LEFT
from tasks.settings import Transport
from tests.incremental.kit import assert_same_as_full, full_disk, stored
from tests.incremental.test_nights import CHANGES
from tests.pipeline.conftest import Runner
from tests.pipeline.kit import Project

TRANSPORTS: tuple[Transport, ...] = ("postgres", "rest")


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_load_that_breaks_off_loses_no_change(
    transport: Transport, project: Project, demo: DemoCounts, run: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Users are written, and the posts' disk is full: over Postgres none of it stays, over REST a full night is next.

    Rows that stayed would have the fingerprint of the source, and the next night would not see that they changed.
    """
    monkeypatch.setattr("tasks.sink.postgres.STAGED_ROWS", 2)
    run(transport)
    before = stored(project)
    project.stack.query(CHANGES)
    with full_disk(project), pytest.raises(PipelineError, match="no room"):
        run(transport, ETL_RUN_RETRIES=0, ETL_RETRIES=1)
    assert (stored(project) == before) == (transport == "postgres")
    night = run(transport)
    if transport == "postgres":
        assert_same_as_full(project, night, lambda: run(transport, full_refresh=True))
    else:
        assert night.full_because == "an earlier run broke off while it wrote rows"


TAKEN_OVER = """
create function public.taken_over() returns trigger language plpgsql as $$
begin
  if new.stage = 'publish' then
    raise exception 'another run holds the lease' using errcode = 'ET002';
  end if;
  return new;
end $$;
create trigger taken_over before update on public.etl_runs for each row execute function public.taken_over();
"""


@pytest.mark.slow
def test_a_run_that_ends_before_it_publishes_says_that_files_are_stored(
    project: Project, demo: DemoCounts, run: Runner
) -> None:
    """It said that there was no file; the cleaned tables are stored while the reports are built."""
    run()
    project.stack.query(CHANGES + TAKEN_OVER)
    try:
        with pytest.raises(LeaseLost) as lost:
            run()
    finally:
        project.stack.query("drop function public.taken_over() cascade")
    stored_files = f"select count(*) > 0 from storage.objects where name like '%/{lost.value.run_id}/%'"
    assert project.stack.query(stored_files) == "t"
    assert lost.value.written == FILES_LEFT


_MANY_POSTS = """
insert into users (created_at) values ('2026-01-01');
insert into posts (user_id, content, created_at) select id, n, '2026-01-02' from users, generate_series(1, 150) n"""


def test_a_night_that_turns_out_to_be_full_goes_on_with_what_an_earlier_start_has_read(
    project: Project, run: Runner, caplog: pytest.LogCaptureFixture
) -> None:
    """It removed that, and read all of it again."""
    project.stack.query(_MANY_POSTS)
    run("rest")
    project.stack.query(f"update posts set content = 'other'; {TAKEN_OVER}")
    try:
        with pytest.raises(LeaseLost):
            run("rest")
    finally:
        project.stack.query("drop function public.taken_over() cascade")
    caplog.set_level(logging.INFO)
    night = run("rest", as_of="resume")
    assert "more than 10% of posts changed" in str(night.full_because)
    assert sum("rows=150 ranges=1 resumed=1" in message for message in caplog.messages) == 1
