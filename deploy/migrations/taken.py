"""Names of ours that the product's own objects carry: found before the first file, which would take those over.

Tables are made *if they do not exist*, functions are replaced, and the role `etl` is given rights. So whatever has one
of the names before anything of ours is applied is the product's, and nothing is applied then.
"""

# ruff: noqa: S608 - names and texts come from our own files, quoted

from __future__ import annotations

import re
from collections.abc import Iterable

from deploy.migrations.files import Migration
from tasks.platform.quoting import literal

TAKEN_REMEDY = (
    "The pipeline makes something of that name: rename your own or move it to another schema "
    "(alter … rename to …, alter … set schema …), and start again."
)
_NAME = r'"?public"?\.("(?:[^"]|"")+"|\w+)'
_RELATIONS = re.compile(rf"\bcreate (?:or replace )?(?:table|view) (?:if not exists )?{_NAME}")
_FUNCTIONS = re.compile(rf"\bcreate (?:or replace )?function {_NAME}")
_INSTALLED = """\
to_regclass('public.etl_migrations') is not null or to_regclass('supabase_migrations.etl_applied') is not null
  or coalesce(obj_description(to_regclass('public.etl_runs'), 'pg_class') like '%nightly pipeline%', false)"""


def made_functions(files: Iterable[Migration]) -> str:
    """The names of the functions that the files make, as a list of SQL."""
    return _listed(_FUNCTIONS, [migration.sql for migration in files])


def taken_names(files: Iterable[Migration]) -> str:
    """A query for what has our names before anything of ours is there, as a text; null for nothing of the kind."""
    sql = [migration.sql for migration in files]
    return f"""\
select string_agg(t.what, ', ' order by t.what) from (
  select format('the %s public.%s', case c.relkind when 'v' then 'view' else 'table' end, c.relname)
  from pg_class c where c.relnamespace = 'public'::regnamespace and c.relname in ({_listed(_RELATIONS, sql)})
  union all
  select format('the function public.%s(%s)', p.proname, pg_get_function_identity_arguments(p.oid))
  from pg_proc p where p.pronamespace = 'public'::regnamespace and p.proname in ({_listed(_FUNCTIONS, sql)})
  union all
  select 'the role etl' from pg_roles r where r.rolname = 'etl' and (r.rolcanlogin or exists (
    select from pg_shdepend d join pg_database b on b.oid = d.dbid and b.datname = current_database()
    where d.refclassid = 'pg_authid'::regclass and d.refobjid = r.oid and d.deptype = 'o'))
) t (what) where not ({_INSTALLED})"""


def _listed(names: re.Pattern[str], sql: Iterable[str]) -> str:
    found = {name for text in sql for name in names.findall(text)}
    return ", ".join(sorted(literal(name.strip('"').replace('""', '"')) for name in found))
