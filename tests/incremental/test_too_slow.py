"""Look-ups and writes that meet the statement timeout of the API's role: fewer keys at once, and what then remains."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from data.demo import DemoCounts
from tasks.errors import ServiceUnavailable
from tests.incremental.kit import published, stored
from tests.pipeline.conftest import Runner
from tests.pipeline.kit import Project

pytestmark = pytest.mark.slow

SLOW = "looking up one key of {} takes longer than the statement timeout"
LOOK_UPS = ("etl_known", "etl_dependents", "etl_orphans_of", "etl_months_of", "etl_values")
WRITES = ("etl_delete", "etl_delete_rejects", "etl_write_rejects", "etl_write")
# Each function behind one of its name that ends, as a statement timeout does, what has more keys or rows than `most`.
# What a sequence counts is not rolled back.
_SLOW = """
do $do$
declare
  f record;
begin
  for f in select p.oid::regprocedure as signature, p.proname as name, pg_get_function_arguments(p.oid) as arguments,
                  p.proargnames as names,
                  (select n from unnest(p.proargnames) n where n in ('p_keys', 'p_values', 'p_ids', 'p_rows')) as items
           from pg_proc p
           where p.pronamespace = 'public'::regnamespace and p.proname = any (string_to_array('{names}', ','))
  loop
    execute format('alter function %s rename to %I', f.signature, f.name || '_in_time');
    execute format('create sequence public.%I', f.name || '_ended');
    execute format('grant usage on sequence public.%I to service_role, etl', f.name || '_ended');
    execute format(
      'create function public.%I(%s) returns jsonb language plpgsql as $f$
       begin
         if jsonb_array_length(public.etl_json(%I)) > {most} then
           perform nextval(%L);
           raise exception ''canceling statement due to statement timeout'' using errcode = ''57014'';
         end if;
         return public.%I(%s);
       end $f$', f.name, f.arguments, f.items, 'public.' || f.name || '_ended',
      f.name || '_in_time', array_to_string(f.names, ', '));
  end loop;
end
$do$"""
_AS_BEFORE = """
do $do$
declare
  f record;
begin
  for f in select p.oid::regprocedure as signature, pg_get_function_identity_arguments(p.oid) as arguments,
                  left(p.proname, -8) as name
           from pg_proc p where p.pronamespace = 'public'::regnamespace and p.proname like 'etl\\_%\\_in\\_time'
  loop
    execute format('drop function public.%I(%s)', f.name, f.arguments);
    execute format('alter function %s rename to %I', f.signature, f.name);
    execute format('drop sequence public.%I', f.name || '_ended');
  end loop;
end
$do$"""
_NEVER_ENDED = """
select string_agg(sequencename, ' ') from pg_sequences where sequencename like 'etl\\_%\\_ended' and last_value is null
"""
CHANGES = """
update users set created_at = created_at - interval '1 day', email = 'new.' || email
where id in (select user_id from clean_posts group by user_id order by count(*), user_id limit 5);
update posts set content = 'Other words' where id in (select id from clean_posts order by id limit 7);
delete from posts where id in (select id from clean_posts order by id desc limit 7);
delete from posts where id::text in (select key from etl_rejects where rule = 'orphan' order by key limit 4);
insert into posts (id, user_id, content, created_at, updated_at)
select md5(n::text)::uuid, null, 'Whose is this?', '2026-01-20Z', '2026-01-20Z'
from generate_series(1, 5) n
"""
BY_HAND = """
update clean_users set name = 'by hand' where id in (select id from clean_users order by id limit 4);
update clean_posts set title = 'by hand' where id in (select id from clean_posts order by id limit 4)
"""


@contextmanager
def slow_past(most: int, project: Project, *functions: str) -> Iterator[None]:
    """These functions take too long for more than `most` keys or rows."""
    project.stack.query(_SLOW.replace("{names}", ",".join(functions)).replace("{most}", str(most)))
    try:
        yield
    finally:
        project.stack.query(_AS_BEFORE)


def test_what_takes_too_long_at_once_is_sent_in_halves(project: Project, demo: DemoCounts, run: Runner) -> None:
    """Four keys at once are too many for every function: the night, and the audit after it, are what they would be."""
    run("rest", as_of="2026-01-10T00:00:00+00:00")
    project.stack.query(CHANGES)
    with slow_past(3, project, *LOOK_UPS, *WRITES):
        night = run("rest")
        assert night.mode == "incremental", night.full_because
        assert night.tables["posts"]["deleted"] == 7
        tables, files = stored(project), published(project)
        project.stack.query(BY_HAND)
        full = run("rest", full_refresh=True)
        assert not project.stack.query(_NEVER_ENDED)
    assert full.drifted == 8, "the rows that were changed by hand, and no other"
    assert stored(project) == tables
    assert published(project) == files


def test_one_key_that_takes_too_long(
    project: Project, demo: DemoCounts, run: Runner, caplog: pytest.LogCaptureFixture
) -> None:
    """A look-up makes the night full, whose audit goes without it; a delete says what it could not do, and what to."""
    run("rest", as_of="2026-01-10T00:00:00+00:00")
    project.stack.query(CHANGES)
    with slow_past(0, project, "etl_months_of"):  # asked for when all else is read: nothing of that counts any more
        late = run("rest", ETL_RETRIES=0, dry_run=True)
    assert (late.mode, dict(late.not_read)) == ("full", {})
    with slow_past(0, project, *LOOK_UPS):
        night = run("rest", ETL_RETRIES=0)
    assert night.full_because == SLOW.format("users")
    assert night.drifted == 0
    assert f"The files of posts are not audited: {SLOW.format('posts')}." in caplog.messages
    project.stack.query("delete from posts where id in (select id from clean_posts order by id limit 3)")
    with slow_past(0, project, "etl_delete"), pytest.raises(ServiceUnavailable) as caught:
        run("rest", ETL_RETRIES=0, ETL_RUN_RETRIES=0)
    assert "Deleting 3 rows in clean_posts: one of them takes longer than the statement timeout of" in str(caught.value)
    assert "At least 0 of 3 changed rows were written before. Nothing is committed" in str(caught.value)
    assert "set statement_timeout" in caught.value.remedy
