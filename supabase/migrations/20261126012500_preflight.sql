-- Two kinds of views passed for whole ones: whose option security_invoker is not written as true, on or 1, and whose rows depend on
-- the rights of who asks. A night over such a view takes rows that it does not see for deleted.

set local lock_timeout = '5s';

-- Every relation behind a relation, views of views included, and the role as which each of them is read. An option is stored as
-- it was written: yes, TRUE, t.
create or replace function public.etl_relations_behind(p_relation oid)
returns table (relation oid, reader oid, kind "char")
language sql stable set search_path = '' as
$$
  with recursive behind as (
    select c.oid as relation, r.oid as reader, c.relkind as kind
    from pg_catalog.pg_class c, pg_catalog.pg_roles r
    where c.oid = p_relation and r.rolname = current_user
    union
    select u.oid,
           case when exists (
               select from pg_catalog.pg_options_to_table(v.reloptions) o
               where o.option_name = 'security_invoker' and o.option_value::boolean)
             then b.reader else v.relowner end,
           u.relkind
    from behind b
    join pg_catalog.pg_class v on v.oid = b.relation and v.relkind = 'v'
    join pg_catalog.pg_rewrite w on w.ev_class = v.oid
    join pg_catalog.pg_depend d
      on d.classid = 'pg_catalog.pg_rewrite'::regclass and d.objid = w.oid
     and d.refclassid = 'pg_catalog.pg_class'::regclass and d.refobjid <> v.oid
    join pg_catalog.pg_class u on u.oid = d.refobjid
  )
  select distinct relation, reader, kind from behind
$$;

-- Why not every row of a relation is seen; empty where all are. A view is whole for everybody only if nothing in it asks who reads it.
create or replace function public.etl_row_filters(p_relation oid)
returns text[]
language sql stable security invoker set search_path = ''
as $$
  with tables as (
    select t.oid, t.relowner, t.relforcerowsecurity, r.oid as reader, r.rolname, r.rolsuper or r.rolbypassrls as exempt
    from public.etl_relations_behind(p_relation) b
    join pg_catalog.pg_class t on t.oid = b.relation and t.relrowsecurity
    join pg_catalog.pg_roles r on r.oid = b.reader
  ), filtered as (
    select t.* from tables t
    where not t.exempt and (t.relforcerowsecurity or not pg_catalog.pg_has_role(t.reader, t.relowner, 'USAGE'))
  ), judged as (
    select f.oid, f.rolname,
           coalesce(bool_or(p.polpermissive and pg_catalog.pg_get_expr(p.polqual, p.polrelid) = 'true'), false) as shown,
           coalesce(bool_or(not p.polpermissive), false) as restricted
    from filtered f
    left join pg_catalog.pg_policy p
      on p.polrelid = f.oid and p.polcmd in ('r', '*')
     and exists (
       select 1 from unnest(p.polroles) as granted (role)
       where granted.role = 0 or pg_catalog.pg_has_role(f.reader, granted.role, 'USAGE'))
    group by f.oid, f.rolname
  ), definitions as (
    -- `bare` is without texts, and without names in quotes but those of functions: a column may be called "user".
    select b.relation, d.written, regexp_replace(
      regexp_replace(d.written, '''[^'']*''|"([^"]*)"', chr(1) || '\1' || chr(2), 'g'), '\u0001[^\u0001\u0002]*\u0002(?!\()', '', 'g') as bare
    from public.etl_relations_behind(p_relation) b
    cross join lateral (select pg_catalog.pg_get_viewdef(b.relation) as written) d
    where b.kind = 'v'
  ), views as (
    select d.relation from definitions d
    where d.written ~* '\m(current_user|session_user|current_role|current_setting|auth\.(uid|jwt|role|email))\M'
       or d.bare ~* '\m(user|system_user|current_schema)\M'
       or d.bare ~* '(?<![.\w])(pg_has_role|has_\w+_privilege|row_security_active|current_schemas|inet_client_(addr|port)|pg_backend_pid)\('
  )
  select coalesce(array_agg(reason order by reason), '{}') from (
    select format('row-level security of %s hides rows from the role %s', j.oid::regclass, j.rolname) as reason
    from judged j where j.restricted or not j.shown
    union all
    select format('the view %s shows each role other rows', v.relation::regclass) from views v
  ) reasons
$$;

revoke all on function public.etl_relations_behind(oid), public.etl_row_filters(oid) from public, anon, authenticated;
grant execute on function public.etl_relations_behind(oid), public.etl_row_filters(oid) to etl, service_role;
