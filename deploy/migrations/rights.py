"""Rights that the files gave and somebody took away since: a hardening script, a dump restored without rights."""

# ruff: noqa: S608 - names come from our own files, quoted

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from deploy.migrations.database import Run, with_lock_retries
from deploy.migrations.files import Migration
from deploy.migrations.taken import made_functions

_OWNERS_ONLY = "'etl_access_token', 'etl_make_indexes', 'etl_open_to_readers'"
_TABLES = "'etl_base', 'etl_batches', 'etl_reject_rows', 'etl_runs', 'etl_waiting'"


def give_back_rights(run: Run, files: Sequence[Migration], *, say: Callable[[str], None]) -> None:
    """Grant etl and service_role what they lack of our functions and tables, and etl its policy on each table.

    Where nothing is lacking, nothing is locked.
    """
    if lacking := [str(statement) for (statement,) in run(_lacking(files))]:
        with_lock_retries(partial(run, ";\n".join(lacking), "Giving rights back"), say=say)
        say(f"gave back {len(lacking)} rights that etl or service_role had lost")


def _lacking(files: Sequence[Migration]) -> str:
    return f"""\
select format('grant execute on function %s to %I', p.oid::regprocedure, r.rolname)
from pg_proc p cross join pg_roles r
where r.rolname in ('etl', 'service_role') and p.pronamespace = 'public'::regnamespace
  and p.proname in ({made_functions(files)}) and starts_with(p.proname, 'etl_') and p.proname not in ({_OWNERS_ONLY})
  and not has_function_privilege(r.oid, p.oid, 'execute')
union all
select format('grant %s on public.%I to %I', o.privilege, c.relname, r.rolname)
from pg_class c cross join pg_roles r
cross join (values ('select'), ('insert'), ('update'), ('delete')) o (privilege)
where r.rolname in ('etl', 'service_role')
  and (c.oid in (select t.relation from public.etl_tables() t)
    or c.relnamespace = 'public'::regnamespace
      and (c.relname in ({_TABLES}) or c.relname = 'etl_rejects' and o.privilege = 'select'))
  and not has_table_privilege(r.oid, c.oid, o.privilege)
union all
select format('create policy etl_all on public.%I to etl using (true) with check (true)', c.relname)
from pg_class c
where (c.oid in (select t.relation from public.etl_tables() t)
    or c.relnamespace = 'public'::regnamespace and c.relname in ({_TABLES}))
  and not exists (select from pg_policy p where p.polrelid = c.oid and p.polname = 'etl_all')"""
