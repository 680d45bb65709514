-- Finding changes with parallel workers, where the server has them: the query is as before, in a form that the planner
-- can split. A join of both sides by their keys, no subquery in its select list, and one group for all rows that are
-- equal, which it must not take for as many groups as rows.

set local lock_timeout = '5s';

-- What is known of the rows of a source, as a query: key, fp, retry (tried every night whatever its fingerprint says) and
-- in_clean. Rejects override cleaned rows, key by key: a refused update leaves the old version there.
create or replace function public.etl_known_sql(p_table text, p_after text, p_until text) returns text
language plpgsql stable set search_path = '' as
$$
declare
  target constant regclass := public.etl_table('clean', p_table);
  shape record;
  bounds text;
begin
  select * into shape from public.etl_shape(target);
  bounds := case when p_after <> '' then format(' and key_ > %L::%s', p_after, shape.key_type) else '' end
         || case when p_until <> '' then format(' and key_ <= %L::%s', p_until, shape.key_type) else '' end;
  return format(
    'select coalesce(r.key, c.%1$s) as key, case when r.key is null then c.fingerprint else r.fingerprint end as fp,
            coalesce(r.retry, false) as retry, c.%1$s is not null and (r.key is null or r.refused) as in_clean,
            coalesce(r.refused, false) as refused
     from (select c.%1$s, c.fingerprint from %2$s c where true %5$s) c
     full join (
       select j.key::%4$s as key, j.fingerprint, j.rule = ''refused_by_database'' as refused,
              j.rule in (''refused_by_database'', ''created_in_future'') or j.fingerprint is null as retry
       from public.etl_reject_rows j where j."table" = %3$L and j.key <> '''' %6$s) r on r.key = c.%1$s',
    shape.key, target, p_table, shape.key_type, replace(bounds, 'key_', 'c.' || shape.key),
    replace(bounds, 'key_', format('j.key::%s', shape.key_type)));
end
$$;

-- The query that finds changes: a row per key that differs or is to be tried again, and one without a key for all others.
-- there: at the source. fp: fingerprints at the source, known: stored ones, both summed. Nothing leaves but what differs.
-- `offset 0` keeps the number of groups unknown to the planner, which would expect one for each key.
create or replace function public.etl_find_changes_sql(p_table text, p_source jsonb, p_after text, p_until text) returns jsonb
language plpgsql stable set search_path = '' as
$$
declare
  shape record;
begin
  select * into shape from public.etl_source_shape(p_source);
  return to_jsonb(format(
    'select x.key::text as key, count(x.source_key) as source_rows, sum(x.fp)::text as source_sum,
            count(*) filter (where x.fp_known) as known_rows, sum(x.known)::text as known_sum,
            count(*) filter (where x.in_clean) as target_rows
     from (select case when s.key is null or k.key is null or k.retry or s.fp is distinct from k.fp then coalesce(s.key, k.key) end as key,
                  s.key as source_key, s.fp, k.fp as known, k.in_clean, k.key is not null and not k.refused as fp_known
           from (select %1$s::%2$s as key, %3$s as fp from %4$s s cross join (select public.etl_seed_value() as seed offset ''0''::bigint) z
                 where true %5$s %6$s) s
           full join (%7$s) k on k.key = s.key offset ''0''::bigint) x
     group by x.key',
    shape.key, shape.key_type, replace(shape.fingerprint, '(select public.etl_seed_value())', 'z.seed'), shape.relation,
    case when p_after <> '' then format('and %s > %L::%s', shape.key, p_after, shape.key_type) else '' end,
    case when p_until <> '' then format('and %s <= %L::%s', shape.key, p_until, shape.key_type) else '' end,
    public.etl_known_sql(p_table, p_after, p_until)));
end
$$;

-- How many rows are known, and the sum of their fingerprints; of refused rows nothing is known. Equal to the source's
-- when nothing was missed. Workers look up the rejects, each by itself: no shared memory is asked for inside a load.
create or replace function public.etl_known_sum(p_table text) returns jsonb
language plpgsql stable set search_path = '' set jit = off set max_parallel_workers_per_gather = 2 set enable_parallel_hash = off as
$$
declare
  target constant regclass := public.etl_table('clean', p_table);
  shape record;
  answer jsonb;
begin
  select * into shape from public.etl_shape(target);
  execute format(
    'select jsonb_build_object(''rows'', count(*), ''sum'', coalesce(sum(k.fingerprint), 0)::text) from (
       select c.fingerprint from %2$s c
       where not exists (select from public.etl_reject_rows j where j."table" = %3$L and j.key <> '''' and j.key::%4$s = c.%1$s)
       union all
       select j.fingerprint from public.etl_reject_rows j
       where j."table" = %3$L and j.key <> '''' and j.rule <> ''refused_by_database'') k',
    shape.key, target, p_table, shape.key_type)
  into answer;
  return answer;
end
$$;
