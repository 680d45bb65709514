"""What somebody dropped or took, or a restored dump does not hold: `make migrate` makes it again."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from deploy.migrations import migrate
from deploy.migrations.files import migrations
from local_stack.postgres import query
from tasks.errors import ConfigurationError

KEYS = Path(__file__).parents[2] / "docs" / "keys.md"
RIGHTS = """
select r.rolname, p.proname, has_function_privilege(r.oid, p.oid, 'execute')
from pg_proc p, pg_roles r where r.rolname in ('etl', 'service_role') and p.proname ~ '^etl_' union all
select r.rolname, c.relname || o, has_table_privilege(r.oid, c.oid, o)
from pg_class c, pg_roles r, unnest(array['select', 'insert', 'update', 'delete']) o
where r.rolname in ('etl', 'service_role') and c.relkind in ('r', 'v') and c.relname ~ '^(etl|clean|user_|daily)_?'
order by 1, 2"""

# Of signed-in people: what they may call and read, and the policies that decide their rows.
OF_READERS = """
select p.proname, null from pg_proc p
where p.pronamespace = 'public'::regnamespace and has_function_privilege('authenticated', p.oid, 'execute')
union all
select c.relname, a.attname from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0
where c.relnamespace = 'public'::regnamespace and c.relname not in ('users', 'posts')
  and has_column_privilege('authenticated', c.oid, a.attnum, 'select')
union all
select p.polrelid::regclass || '.' || p.polname, pg_get_expr(p.polqual, p.polrelid) from pg_policy p
where 'authenticated'::regrole = any (p.polroles)
union all
select r.rolname, has_table_privilege(r.oid, 'public.nightly_runs', 'select')::text from pg_roles r
where r.rolname in ('anon', 'authenticated', 'service_role')
order by 1, 2"""

FUNCTIONS = """
select p.proname, pg_get_functiondef(p.oid), (select string_agg(distinct a.grantee::regrole::text, ', ')
  from aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a)
from pg_proc p where p.pronamespace = 'public'::regnamespace and p.proname ~ '^(etl|nightly)_' order by 1"""
TRIGGERS = "select tgname, tgenabled, tgrelid::regclass from pg_trigger where not tgisinternal and tgname ~ '^etl_'"
DROP_FUNCTIONS = """
do $$ declare f regprocedure; begin
  for f in select oid from pg_proc where pronamespace = 'public'::regnamespace and proname ~ '^(etl|nightly)_'
  loop execute format('drop function %s cascade', f); end loop;
end $$"""


def test_rights_that_somebody_took_are_given_back(project: str) -> None:
    """What a run says of a right that it lacks is: run `make migrate`."""
    migrate(project)
    before, of_readers = query(project, RIGHTS), query(project, OF_READERS)
    everyone = "etl, service_role, supabase_auth_admin, authenticated"
    for kind in ("functions", "tables"):
        query(project, f"revoke all on all {kind} in schema public from {everyone}")
    query(project, "drop policy etl_analysts on daily_activity; drop policy etl_readers on etl_runs")
    said: list[str] = []
    with pytest.raises(ConfigurationError, match=r"the role etl may not read public\.users") as caught:
        migrate(project, say=said.append)
    grant_sources(project, caught.value)
    (line,) = said
    assert line.startswith("gave back what etl, service_role, Auth or readers had lost: grant ")
    assert line.endswith(" more")
    assert query(project, RIGHTS) == before
    assert query(project, OF_READERS) == of_readers
    assert (
        query(
            project, "select has_function_privilege('supabase_auth_admin', 'public.etl_access_token(jsonb)', 'execute')"
        )
        == "t"
    )
    query(project, "revoke select (email) on public.clean_users from authenticated")
    query(project, _block())
    assert migrate(project, say=said.append) == []
    assert len(said) == 1, "a column that somebody closed stays closed"
    query(project, "delete from etl_migrations where version = (select max(version) from etl_migrations)")
    assert len(migrate(project)) == 1
    assert {*of_readers.splitlines()} < {*query(project, OF_READERS).splitlines()}, "but not over an update"
    assert query(project, "select count(*) from pg_policy where not polpermissive") == "1"


def _block() -> str:
    """How docs/keys.md closes a report to analysts for good."""
    (block,) = re.findall(r"^create policy closed on .*?;$", KEYS.read_text(), re.MULTILINE | re.DOTALL)
    return str(block)


def test_an_unlogged_table_of_ours_is_named(project: str) -> None:
    """A crash of the server would empty it, and the ledger with it."""
    migrate(project)
    query(project, "alter table public.etl_runs set unlogged; alter table public.clean_posts set unlogged")
    with pytest.raises(ConfigurationError, match="a crash of the server empties etl_runs, which is unlogged") as caught:
        migrate(project)
    assert len(str(caught.value).splitlines()) == 3
    grant_sources(project, caught.value)
    assert migrate(project) == []


def grant_sources(project: str, error: ConfigurationError) -> None:
    """They are not ours: what they lack is named, and is run as it is said."""
    for line in str(error).splitlines()[1:]:
        query(project, line.partition(": ")[2].partition(" as a role")[0])


def test_what_somebody_opened_to_everybody_is_closed(project: str) -> None:
    """As `grant all on all …` does, or a dump that is restored without rights where new tables are open to all."""
    migrate(project)
    before = query(project, OPEN)
    books = "public.etl_runs, public.etl_seed, public.etl_rejects"
    opened = f"grant all on {books}, public.clean_users to public, anon; grant all on {books} to authenticated"
    query(project, f"{opened}; grant all on all functions in schema public to public, anon, authenticated")
    query(project, "alter table public.clean_posts disable row level security; grant select on daily_activity to anon")
    assert query(project, OPEN) != before
    said: list[str] = []
    assert migrate(project, say=said.append) == []
    (line,) = said
    first = "alter table clean_posts enable row level security; revoke all on clean_users from anon; revoke all on cl"
    assert line.startswith(f"took back what somebody had opened to everybody: {first}")
    assert line.endswith(" more")
    assert query(project, OPEN) == before
    assert query(project, "select has_table_privilege('anon', 'public.daily_activity', 'select')") == "t"
    assert migrate(project, say=said.append) == []
    assert len(said) == 1


OPEN = """
select r.rolname, c.relname, a.attname, o from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0
cross join pg_roles r cross join unnest(array['select', 'update']) o
where r.rolname in ('anon', 'authenticated') and c.relname ~ '^(etl|clean)_' and c.relkind in ('r', 'v')
  and c.relnamespace = 'public'::regnamespace and has_column_privilege(r.oid, c.oid, a.attnum, o)
union all
select r.rolname, p.oid::regprocedure::text, null, null from pg_proc p cross join pg_roles r
where r.rolname in ('anon', 'authenticated') and p.pronamespace = 'public'::regnamespace
  and has_function_privilege(r.oid, p.oid, 'execute')
union all
select null, c.relname, null, null from pg_class c
where c.relname ~ '^(etl|clean)_' and c.relkind = 'r' and not c.relrowsecurity
order by 1, 2, 3, 4"""


def test_the_role_that_a_restored_dump_does_not_hold_is_made_again(project: str) -> None:
    """On another server: rights and policies of the role could not be restored there."""
    migrate(project)
    before = query(project, RIGHTS)
    query(project, "alter role etl rename to etl_elsewhere; drop owned by etl_elsewhere")
    said: list[str] = []
    try:
        with pytest.raises(ConfigurationError, match=r"the role etl may not read public\.users") as caught:
            migrate(project, say=said.append)
        assert said[0] == "made the role etl again, which no dump of the database holds"
        grant_sources(project, caught.value)
        assert migrate(project, say=said.append) == []
        assert query(project, RIGHTS) == before
        assert query(project, ROLE) == "t|t|f|f|t"
    finally:
        made = "do $$ begin if to_regrole('etl') is not null then drop owned by etl; drop role etl; end if; end $$"
        query(project, f"{made}; alter role etl_elsewhere rename to etl")


ROLE = """
select pg_has_role('postgres', oid, 'member'), pg_has_role('authenticator', oid, 'member'), rolbypassrls, rolcanlogin,
  has_database_privilege(oid, current_database(), 'temporary') from pg_roles where rolname = 'etl'"""


def test_functions_that_somebody_dropped_are_made_again_as_they_were(project: str) -> None:
    """What a run says of a function that the database lacks is: run `make migrate`."""
    migrate(project)
    before = query(project, FUNCTIONS)
    said: list[str] = []
    query(project, "drop function public.etl_beat")
    assert migrate(project, say=said.append) == []
    assert said[0] == "made again what somebody had dropped: etl_beat"
    assert query(project, FUNCTIONS) == before
    query(project, DROP_FUNCTIONS)
    migrate(project)
    assert query(project, FUNCTIONS) == before
    assert query(project, TRIGGERS) == "etl_move_base|A|etl_runs"


@pytest.mark.parametrize("made", ["etl_release", "etl_target_page"])
def test_functions_of_an_earlier_release_are_replaced_by_those_of_this_one(project: str, made: str) -> None:
    """Somebody ran an older file by hand: `make migrate` had nothing to apply, and advised `make migrate`.

    One from before files say their release was not noticed at all: the next night ended in a KeyError.
    """
    migrate(project)
    before = query(project, FUNCTIONS)
    older = [file for file in migrations() if f"function public.{made}(" in file.sql][-2]
    query(project, older.sql)
    assert query(project, FUNCTIONS) != before
    said: list[str] = []
    assert migrate(project, say=said.append) == []
    assert query(project, FUNCTIONS) == before
    assert len(said) == 1
    assert migrate(project, say=said.append) == []
    assert len(said) == 1


def test_views_that_somebody_dropped_are_made_again_as_they_were(project: str) -> None:
    """The reports site reads the runs by one of them: it said that the table is not there."""
    migrate(project)
    views = "select viewname, definition, obj_description(viewname::regclass) from pg_views where schemaname = 'public'"
    before = [query(project, asked) for asked in (f"{views} order by 1", RIGHTS, OF_READERS)]
    said: list[str] = []
    query(project, "drop view public.etl_rejects, public.nightly_runs")
    assert migrate(project, say=said.append) == []
    assert [line.partition(": ")[2] for line in said[:2]] == ["etl_rejects", "nightly_runs"]
    assert [query(project, asked) for asked in (f"{views} order by 1", RIGHTS, OF_READERS)] == before


def test_a_table_that_somebody_dropped_is_named(project: str) -> None:
    """Functions were made again over the list without it, and `make migrate` ended at a table that is not there."""
    migrate(project)
    query(project, "drop table public.user_statistics")
    with pytest.raises(ConfigurationError, match="there is no table user_statistics for user_statistics"):
        migrate(project)


@pytest.mark.parametrize(
    "how", ["drop function public.etl_move_base() cascade", "alter table public.etl_runs disable trigger etl_move_base"]
)
def test_the_trigger_that_moves_the_base_is_made_again_and_the_base_mistrusted(project: str, how: str) -> None:
    """Runs may have committed while it was gone: a night that starts from that base would be wrong without a word."""
    migrate(project)
    query(project, f"insert into public.etl_base (run_id, dirty) values (null, false); {how}")
    said: list[str] = []
    migrate(project, say=said.append)
    assert any("made the trigger etl_move_base again" in line for line in said)
    assert query(project, TRIGGERS) == "etl_move_base|A|etl_runs"
    assert query(project, "select dirty from public.etl_base") == "t"
    said.clear()
    migrate(project, say=said.append)
    assert not said
