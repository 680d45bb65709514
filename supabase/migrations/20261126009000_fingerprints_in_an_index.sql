-- What is stored is compared with its source, and summed after a load, through an index alone: some 40 bytes a row instead of
-- whole rows. The primary key stays as it is: tools that list the columns of its index would take the fingerprint for a key.

set local lock_timeout = '5s';
set local maintenance_work_mem = '128MB';

-- An index that is scanned alone needs pages that vacuum knows to be visible to all. By default vacuum waits until a fifth of
-- the rows changed; here it comes when 3 in 1,000 did, and visits the pages that changed.
do $$
declare
  named text;
  target regclass;
  shape record;
begin
  foreach named in array array['users', 'posts'] loop
    target := public.etl_table('clean', named);
    select * into shape from public.etl_shape(target);
    execute format('create index if not exists %I on %s (%s) include (fingerprint)', 'etl_' || named || '_fingerprints', target, shape.key);
    execute format('alter table %s set (autovacuum_vacuum_scale_factor = 0.003, autovacuum_vacuum_insert_scale_factor = 0.003)', target);
  end loop;
end
$$;

-- Whether most of a table's pages are known to be visible to all. The planner knows how many were at the last vacuum; each
-- row written since may have taken that from two pages, and for all rows of such a page the table is looked into, in the
-- order of keys, which is far slower than reading it from its start to its end.
create or replace function public.etl_scans_by_index(p_table regclass) returns boolean
language sql stable set search_path = '' as
$$
  select 8 * (2 * pg_catalog.pg_stat_get_dead_tuples(r.oid) + pg_catalog.pg_stat_get_ins_since_vacuum(r.oid)) <= r.relpages
  from pg_catalog.pg_class r where r.oid = p_table
$$;
revoke all on function public.etl_scans_by_index(regclass) from public, anon, authenticated;
grant execute on function public.etl_scans_by_index(regclass) to etl, service_role;

-- As before; what is stored is read through the index alone where that pays.
create or replace function public.etl_find_changes(p_table text, p_source jsonb, p_after text, p_until text, p_most jsonb) returns jsonb
language plpgsql stable set search_path = '' set timezone = 'UTC' set datestyle = 'ISO' set extra_float_digits = 1
set work_mem = '64MB' set jit = off set enable_indexonlyscan = on as
$$
declare
  most constant integer := (public.etl_json(p_most) #>> '{}')::integer;
  answer jsonb;
begin
  perform set_config('enable_indexonlyscan', public.etl_scans_by_index(public.etl_table('clean', p_table))::text, true);
  answer := public.etl_find_few_changes(p_table, p_source, p_after, p_until, p_most);
  if answer is not null then
    return answer;
  end if;
  execute format(
    'with g as materialized (%s)
     select jsonb_build_object(
       ''changed'', (select coalesce(jsonb_agg(jsonb_build_array(c.key, c.source_rows > 0, c.source_sum)), ''[]'')
                   from (select * from g where g.key is not null limit %s) c),
       ''more'', count(*) filter (where g.key is not null) > %s,
       ''source_rows'', coalesce(sum(g.source_rows), 0), ''source_sum'', coalesce(sum(g.source_sum::numeric), 0)::text,
       ''known_rows'', coalesce(sum(g.known_rows), 0), ''known_sum'', coalesce(sum(g.known_sum::numeric), 0)::text,
       ''target_rows'', coalesce(sum(g.target_rows), 0)) from g',
    public.etl_find_changes_sql(p_table, p_source, p_after, p_until) #>> '{}', most, most)
  into answer;
  return answer;
end
$$;

create or replace function public.etl_known_sum(p_table text) returns jsonb
language plpgsql stable set search_path = '' set jit = off set max_parallel_workers_per_gather = 2 set enable_parallel_hash = off
set enable_indexonlyscan = on as
$$
declare
  target constant regclass := public.etl_table('clean', p_table);
  shape record;
  statement text;
  answer jsonb;
begin
  select * into shape from public.etl_shape(target);
  perform set_config('enable_indexonlyscan', public.etl_scans_by_index(target)::text, true);
  statement := format(
    'select jsonb_build_object(''rows'', count(*), ''sum'', coalesce(sum(k.fingerprint), 0)::text) from (
       select c.fingerprint from %2$s c %5$s
       union all
       select j.fingerprint from public.etl_reject_rows j
       where j."table" = %3$L and j.key <> '''' and j.rule <> ''refused_by_database'') k',
    shape.key, target, p_table, shape.key_type,
    case when exists (select from public.etl_reject_rows j where j."table" = p_table and j.key <> '') then format(
      'where not exists (select from public.etl_reject_rows j where j."table" = %L and j.key <> '''' and j.key::%s = c.%s)',
      p_table, shape.key_type, shape.key) end);
  loop
    begin
      execute statement into answer;
      return answer;
    exception when insufficient_resources then
      if current_setting('max_parallel_workers_per_gather') = '0' then
        raise;
      end if;
      perform set_config('max_parallel_workers_per_gather', '0', true);
    end;
  end loop;
end
$$;
