-- Whether the base moves with each commit: a run looks before it reads. Without the trigger, as after `drop function … cascade`, it
-- stayed, and a later night took unchanged rows from files of a run before the last one.

set local lock_timeout = '5s';

-- What our tables look like, from the catalog, as before; and `base_moves`.
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
  select jsonb_build_object(
    'release', public.etl_release(),
    'base_moves', exists (
      select from pg_catalog.pg_trigger t
      where t.tgrelid = 'public.etl_runs'::regclass and t.tgname = 'etl_move_base' and t.tgenabled = 'A'),
    'tables', jsonb_object_agg(d.relname, jsonb_build_object(
      'kind', d.kind, 'name', d.name, 'columns', d.columns, 'key', coalesce(d.key, '[]'))))
  from described d
$$;

create or replace function public.etl_release() returns text
language sql immutable set search_path = '' as $$ select '20261126021000' $$;
