"""Incremental nights with a row that the database refuses: what is noted of it, and the file that has it."""

from __future__ import annotations

from data.demo import DemoCounts
from tests.incremental.kit import assert_same_as_full
from tests.incremental.test_nights import assert_buckets_find_what_a_join_finds
from tests.pipeline.conftest import Runner
from tests.pipeline.kit import Project

# A post that the database refuses moves to another month: it is in the files of that one, and stored in the other. What
# the rules counted of it each time is what the next night takes away.
REFUSE_A_POST = """
create function refuse_one() returns trigger language plpgsql as $$
begin if new.created_at >= '2026-01-20Z' then raise exception 'no' using errcode = '23514'; end if; return new; end $$;
create trigger refuse_one before insert or update on clean_posts for each row execute function refuse_one();
update posts set created_at = '2026-01-21Z', updated_at = '2026-01-21Z', content = E'hidden\\u200b' where id = (
  select id from clean_posts
  where created_at between '2025-10-02Z' and '2025-11-28Z' and rule_mask = 0 order by id limit 1) returning id
"""


def test_a_row_that_the_database_refuses_keeps_its_first_run_and_leaves_the_file_that_it_was_in(
    project: Project, demo: DemoCounts, run: Runner
) -> None:
    project.stack.query("delete from posts where created_at >= '2026-01-19Z'")
    run("postgres")
    post = project.stack.query(REFUSE_A_POST)
    noted = "select key, first_run, first_seen from public.etl_rejects where rule = 'refused_by_database'"
    try:
        first = run("postgres", ETL_MAX_REFUSED_SHARE=0.1)
        since = project.stack.query(noted)
        assert (first.mode, since.split("|")[:2]) == ("incremental", [post, first.run_id])
        assert_buckets_find_what_a_join_finds(project)
        project.stack.query(f"update posts set content = 'Other words', created_at = '2026-02-02Z' where id = '{post}'")
        run("postgres", ETL_MAX_REFUSED_SHARE=0.1)
        assert project.stack.query(noted) == since
        project.stack.query(f"delete from posts where id = '{post}'")
        night = run("postgres")
        assert_same_as_full(project, night, lambda: run("postgres", full_refresh=True))
    finally:
        project.stack.query("drop trigger refuse_one on clean_posts; drop function refuse_one()")
