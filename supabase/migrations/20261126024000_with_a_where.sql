-- The API of a Supabase project loads pg-safeupdate, which refuses a DELETE or UPDATE without a WHERE (21000), in functions as well: no
-- run over REST could commit there, nor mark its base as mistrusted.

set local lock_timeout = '5s';

-- The commit, in one transaction, as before.
create or replace function public.etl_commit(p_run text, p_token text, p_facts jsonb, p_aggregates jsonb) returns jsonb
language plpgsql set search_path = '' as
$$
declare
  facts constant jsonb := public.etl_json(p_facts);
  mine public.etl_runs;
  item record;
begin
  select * into mine from public.etl_runs r where r.run_id = p_run and r.token = p_token::uuid and r.status = 'committed';
  if found then
    return public.etl_run_json(mine);
  end if;
  mine := public.etl_require_lease(p_run, p_token);
  if not mine.historical then
    for item in select a.key as name, a.value as content from jsonb_each(public.etl_json(p_aggregates)) a loop
      perform public.etl_put(item.name, item.content -> 'rows', (item.content ->> 'whole')::boolean);
    end loop;
    delete from public.user_statistics s where s.as_of > mine.as_of;
    perform public.etl_put_refused(p_run, facts -> 'refused');
  end if;
  delete from public.etl_batches where true;
  update public.etl_runs r
  set status = 'committed', stage = 'committed', finished_at = clock_timestamp(), heartbeat = clock_timestamp(), error = null,
      manifest_path = facts ->> 'manifest_path', manifest_sha256 = facts ->> 'manifest_sha256',
      counts = r.counts || coalesce(facts -> 'counts', '{}'),
      seconds = r.seconds || coalesce(facts -> 'seconds', '{}'),
      bytes = r.bytes || coalesce(facts -> 'bytes', '{}'),
      current_at = case when not r.historical
        then greatest(clock_timestamp(), (select max(c.current_at) from public.etl_runs c) + interval '1 microsecond') end
  where r.run_id = p_run
  returning * into mine;
  return public.etl_run_json(mine);
end
$$;

-- A mistrusted base: the next night reads everything. As before.
create or replace function public.etl_distrust_base(p_run text, p_token text) returns jsonb
language plpgsql set search_path = '' as
$$
begin
  perform public.etl_require_lease(p_run, p_token);
  update public.etl_base set dirty = true where true;
  return 'true';
end
$$;

-- What our tables look like, from the catalog, as before; a generated column, which takes no value, is called so.
create or replace function public.etl_own_tables() returns jsonb
language sql stable set search_path = '' as $$
  with ours as (
    select t.kind, t.name, t.relation from public.etl_tables() t
    union all
    select 'rejects', 'etl_reject_rows', 'public.etl_reject_rows'::regclass
  ), described as (
    select c.relname, o.kind, o.name,
      (select jsonb_object_agg(a.attname, jsonb_build_object(
         'type', pg_catalog.format_type(a.atttypid, a.atttypmod), 'required', a.attnotnull, 'generated', a.attgenerated <> ''))
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
    'lacking', public.etl_lacking(),
    'base_moves', exists (
      select from pg_catalog.pg_trigger t
      where t.tgrelid = 'public.etl_runs'::regclass and t.tgname = 'etl_move_base' and t.tgenabled = 'A'),
    'tables', jsonb_object_agg(d.relname, jsonb_build_object(
      'kind', d.kind, 'name', d.name, 'columns', d.columns, 'key', coalesce(d.key, '[]'))))
  from described d
$$;

create or replace function public.etl_release() returns text
language sql immutable set search_path = '' as $$ select '20261126024000' $$;
