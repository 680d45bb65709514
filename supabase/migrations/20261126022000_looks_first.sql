-- A run looks before it reads whether all of our functions are there, and whether its role has all rights to them and to our tables:
-- without one it ended where it first needed it, at its commit perhaps; and the doctor, which looks the same way, found nothing.

set local lock_timeout = '5s';

-- What the role that asks lacks of what the migrations make and grant: {role, functions that are gone, execute: functions that it may
-- not call, tables: {name: [privileges]}}.
create or replace function public.etl_lacking() returns jsonb
language sql stable set search_path = '' as $$
  with named as (
    select pg_catalog.unnest('{
      etl_as_of, etl_base_run, etl_beat, etl_begin, etl_buckets_sql, etl_changes, etl_commit, etl_compare_buckets, etl_current,
      etl_delete, etl_delete_rejects, etl_dependents, etl_distrust_base, etl_doctor, etl_estimate, etl_estimated_rows,
      etl_find_changes, etl_find_changes_sql, etl_find_few_changes, etl_fingerprint_sql, etl_finish, etl_has_key_index, etl_held_by,
      etl_history, etl_identity, etl_json, etl_key_bits, etl_key_state, etl_known, etl_known_rejects_within_sql, etl_known_sql,
      etl_known_sum, etl_lacking, etl_mark_wrong, etl_months_of, etl_note_flow_run, etl_orphans_of, etl_own_tables, etl_preflight,
      etl_put, etl_put_refused, etl_rejects_page, etl_relations_behind, etl_release, etl_replace, etl_require_lease, etl_restore,
      etl_resumable, etl_row_filters, etl_rows, etl_rows_by_key, etl_rule_sums, etl_run_json, etl_sample_keys, etl_sample_known,
      etl_scans_by_index, etl_seed_id, etl_seed_value, etl_shape, etl_source_shape, etl_stage, etl_start, etl_stored_files,
      etl_table, etl_tables, etl_target_page, etl_upsert, etl_values, etl_view_functions, etl_wait, etl_waits, etl_write,
      etl_write_rejects, etl_write_staged}'::text[]) as name
  ), gone as (
    select n.name from named n
    where not exists (
      select from pg_catalog.pg_proc p where p.pronamespace = 'public'::regnamespace and p.proname = n.name)
  ), refused as (
    select n.name from named n join pg_catalog.pg_proc p on p.pronamespace = 'public'::regnamespace and p.proname = n.name
    where not pg_catalog.has_function_privilege(p.oid, 'execute')
  ), tables as (
    select c.relname, pg_catalog.jsonb_agg(o.privilege order by o.place) as privileges
    from pg_catalog.pg_class c
    cross join (values (1, 'select'), (2, 'insert'), (3, 'update'), (4, 'delete')) as o (place, privilege)
    where (c.oid in (select t.relation from public.etl_tables() t)
        or c.relnamespace = 'public'::regnamespace
          and (c.relname in ('etl_base', 'etl_batches', 'etl_reject_rows', 'etl_runs', 'etl_waiting')
            or c.relname = 'etl_rejects' and o.privilege = 'select'))
      and not pg_catalog.has_table_privilege(c.oid, o.privilege)
    group by c.relname
  )
  select jsonb_build_object(
    'role', current_user,
    'functions', (select coalesce(jsonb_agg(g.name order by g.name), '[]') from gone g),
    'execute', (select coalesce(jsonb_agg(r.name order by r.name), '[]') from refused r),
    'tables', (select coalesce(jsonb_object_agg(t.relname, t.privileges), '{}') from tables t))
$$;
revoke all on function public.etl_lacking() from public, anon, authenticated;
grant execute on function public.etl_lacking() to service_role, etl;

-- What our tables look like, from the catalog, as before; and `lacking`.
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
    'lacking', public.etl_lacking(),
    'base_moves', exists (
      select from pg_catalog.pg_trigger t
      where t.tgrelid = 'public.etl_runs'::regclass and t.tgname = 'etl_move_base' and t.tgenabled = 'A'),
    'tables', jsonb_object_agg(d.relname, jsonb_build_object(
      'kind', d.kind, 'name', d.name, 'columns', d.columns, 'key', coalesce(d.key, '[]'))))
  from described d
$$;

-- The base and its run, {run_id, dirty, run, seed, behind}; null when there never was one. behind: a later run was committed, and the
-- base did not move to it, as while its trigger was gone: its files are not of what is stored. A restore makes an earlier run current.
create or replace function public.etl_base_run() returns jsonb
language sql stable set search_path = '' as $$
  select jsonb_build_object('run_id', b.run_id, 'dirty', b.dirty, 'run', public.etl_run_json(r), 'seed', public.etl_seed_id(),
    'behind', exists (
      select from public.etl_runs c
      where c.kind = 'run' and c.status = 'committed' and not c.historical and c.current_at > r.current_at
        and not exists (select from public.etl_runs x where x.restored_run = c.run_id)))
  from public.etl_base b left join public.etl_runs r on r.run_id = b.run_id
$$;

create or replace function public.etl_release() returns text
language sql immutable set search_path = '' as $$ select '20261126022000' $$;
