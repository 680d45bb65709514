"""Rights that the files gave and somebody took away since, or the other way round: a script, a dump without rights."""

# ruff: noqa: S608 - names come from our own files, quoted

from __future__ import annotations

from collections.abc import Callable, Sequence

from deploy.migrations.database import Run, with_lock_retries
from deploy.migrations.files import Migration
from deploy.migrations.statements import ANALYST
from deploy.migrations.taken import made_functions
from tasks.platform.quoting import literal

_OWNERS_ONLY = "'etl_access_token', 'etl_make_indexes', 'etl_open_to_readers'"
BOOKS = "'etl_base', 'etl_batches', 'etl_reject_rows', 'etl_runs', 'etl_waiting'"
_SAID = 8  # statements; a `grant all` makes hundreds


def take_back_rights(run: Run, files: Sequence[Migration], *, say: Callable[[str], None]) -> None:
    """Close to everybody what a `grant all` or a restored dump has opened, and row-level security that is off.

    Of cleaned tables and reports what signed-in people were given stays, whose rows the policies decide; and reports
    may be open to all. Where nothing is open, nothing is locked.
    """
    opened = sorted(str(statement) for (statement,) in run(_opened(files)))  # tables first, then functions
    if opened:
        opened_again = "select public.etl_open_to_readers()"  # rights on columns went with those on their table
        script = ";\n".join(["begin", *opened, opened_again, "commit"])
        with_lock_retries(run, script, "Taking rights back", say=say)
        say(f"took back what somebody had opened to everybody: {_listed(opened)}")


def give_back_rights(run: Run, files: Sequence[Migration], *, say: Callable[[str], None]) -> None:
    """Grant etl, service_role, Auth and signed-in readers what they lack of our functions, tables and views.

    Policies that are gone are made again. Where nothing is lacking, nothing is locked.
    """
    found = [*run(_lacking(files)), *run(_lacking_of_readers(files))]
    if lacking := [str(statement) for (statement,) in found]:
        script = ";\n".join(["begin", *lacking, "commit"])
        with_lock_retries(run, script, "Giving rights back", say=say)
        say(f"gave back what etl, service_role, Auth or readers had lost: {_listed(lacking)}")


def _listed(made: Sequence[str]) -> str:
    more = f"; and {len(made) - _SAID} more" if len(made) > _SAID else ""
    return "; ".join(made[:_SAID]) + more


def _opened(files: Sequence[Migration]) -> str:
    return f"""\
select x.statement from (
with ours as (
  select c.oid, c.relkind, c.relowner, c.relacl, c.relrowsecurity, coalesce(t.kind, 'book') as kind
  from pg_class c left join public.etl_tables() t on t.relation = c.oid
  where t.relation is not null
    or c.relnamespace = 'public'::regnamespace and c.relname in ({BOOKS}, 'etl_seed', 'etl_migrations', 'etl_rejects')
)
select format('alter table %s enable row level security', o.oid::regclass) from ours o
where o.relkind = 'r' and not o.relrowsecurity
union
select format('revoke all on %s from %s', o.oid::regclass, coalesce(quote_ident(r.rolname), 'public'))
from ours o cross join aclexplode(o.relacl) a left join pg_roles r on r.oid = a.grantee
where a.grantor = o.relowner and o.kind <> 'aggregate'
  and (a.grantee = 0 or r.rolname = 'anon' or r.rolname = 'authenticated' and o.kind = 'book')
union
select format('revoke all on function %s from %s', p.oid::regprocedure, coalesce(quote_ident(r.rolname), 'public'))
from pg_proc p cross join aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
left join pg_roles r on r.oid = a.grantee
where p.pronamespace = 'public'::regnamespace and p.proname in ({made_functions(files)}) and a.grantor = p.proowner
  and (a.grantee = 0 or r.rolname = 'anon' or r.rolname = 'authenticated' and starts_with(p.proname, 'etl_'))
) x (statement)"""


def _lacking(files: Sequence[Migration]) -> str:
    return f"""\
select format('grant execute on function %s to %I', p.oid::regprocedure, r.rolname)
from pg_proc p cross join pg_roles r
where r.rolname in ('etl', 'service_role') and p.pronamespace = 'public'::regnamespace
  and p.proname in ({made_functions(files)}) and starts_with(p.proname, 'etl_') and p.proname not in ({_OWNERS_ONLY})
  and not has_function_privilege(r.oid, p.oid, 'execute')
union all
select format('grant execute on function %s to %I', p.oid::regprocedure, r.rolname)
from pg_proc p cross join pg_roles r
where r.rolname = 'supabase_auth_admin' and p.pronamespace = 'public'::regnamespace and p.proname = 'etl_access_token'
  and not has_function_privilege(r.oid, p.oid, 'execute')
union all
select format('grant %s on public.%I to %I', o.privilege, c.relname, r.rolname)
from pg_class c cross join pg_roles r
cross join (values ('select'), ('insert'), ('update'), ('delete')) o (privilege)
where r.rolname in ('etl', 'service_role')
  and (c.oid in (select t.relation from public.etl_tables() t)
    or c.relnamespace = 'public'::regnamespace
      and (c.relname in ({BOOKS}) or c.relname = 'etl_rejects' and o.privilege = 'select'))
  and not has_table_privilege(r.oid, c.oid, o.privilege)
union all
select format('create policy etl_all on public.%I to etl using (true) with check (true)', c.relname)
from pg_class c
where (c.oid in (select t.relation from public.etl_tables() t)
    or c.relnamespace = 'public'::regnamespace and c.relname in ({BOOKS}))
  and not exists (select from pg_policy p where p.polrelid = c.oid and p.polname = 'etl_all')"""


def _lacking_of_readers(files: Sequence[Migration]) -> str:
    """Rights of signed-in people, whose rows the policies decide. A single column that somebody closed is no reason."""
    return f"""\
select format('grant execute on function %s to %I', p.oid::regprocedure, r.rolname)
from pg_proc p cross join pg_roles r
where r.rolname in ('authenticated', 'service_role') and p.pronamespace = 'public'::regnamespace
  and p.proname in ({made_functions(files)}) and starts_with(p.proname, 'nightly_')
  and not has_function_privilege(r.oid, p.oid, 'execute')
union all
select format('grant select on %s to %I', v.relation, r.rolname)
from (select to_regclass('public.nightly_runs') as relation, '{{authenticated,service_role}}'::name[] as readers
  union all select t.relation, '{{authenticated}}' from public.etl_tables() t where t.kind = 'aggregate') v
join pg_roles r on r.rolname = any (v.readers)
where not has_table_privilege(r.oid, v.relation, 'select')
union all
select format('create policy etl_analysts on %s for select to authenticated using (%s)', t.relation, {literal(ANALYST)})
from public.etl_tables() t
where t.kind = 'aggregate'
  and not exists (select from pg_policy p where p.polrelid = t.relation and p.polname = 'etl_analysts')
union all
select 'select public.etl_open_to_readers()' where exists (
  select from (select t.relation, 'etl_operators' as policy from public.etl_tables() t
    union all select 'public.etl_runs'::regclass, 'etl_readers') x
  where not has_any_column_privilege('authenticated', x.relation, 'select')
    or not exists (select from pg_policy p where p.polrelid = x.relation and p.polname = x.policy))"""
