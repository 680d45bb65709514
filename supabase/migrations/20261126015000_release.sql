-- Which migrations of ours the database has: a run and the doctor compare it with what their code needs. Without the newest ones all
-- seemed well, and what they had put right stayed wrong.
set local lock_timeout = '5s';

-- The version of the last migration of ours. Each later one replaces this function, and says its own.
create or replace function public.etl_release() returns text
language sql immutable set search_path = '' as $$ select '20261126015000' $$;
revoke all on function public.etl_release() from public, anon, authenticated, service_role;
grant execute on function public.etl_release() to etl, service_role;

-- What our tables look like, from the catalog, as before; and `release`.
create or replace function public.etl_own_tables() returns jsonb
language sql stable set search_path = '' as $$
  with ours as (
    select t.kind, t.name, t.relation from public.etl_tables() t
    union all
    select 'rejects', 'etl_reject_rows', 'public.etl_reject_rows'::regclass
  ), described as (
    select c.relname, o.kind, o.name,
      (select jsonb_object_agg(a.attname, jsonb_build_object(
         'type', pg_catalog.format_type(a.atttypid, a.atttypmod), 'required', a.attnotnull, 'has_default', a.atthasdef))
       from pg_catalog.pg_attribute a
       where a.attrelid = o.relation and a.attnum > 0 and not a.attisdropped) as columns,
      (select jsonb_agg(a.attname order by k.position)
       from pg_catalog.pg_index i
       cross join lateral unnest(i.indkey::smallint[]) with ordinality as k (attnum, position)
       join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
       where i.indrelid = o.relation and i.indisprimary) as key
    from ours o join pg_catalog.pg_class c on c.oid = o.relation
  )
  select jsonb_build_object('release', public.etl_release(), 'tables', jsonb_object_agg(d.relname, jsonb_build_object(
    'kind', d.kind, 'name', d.name, 'columns', d.columns, 'key', coalesce(d.key, '[]'))))
  from described d
$$;
