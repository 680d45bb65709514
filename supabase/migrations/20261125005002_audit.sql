-- What a full night asks, to see whether what incremental nights carried is what is there.

-- What the stored rows counted for, by rule, from nothing: {read, affected: {rule: rows}}. p_rules: [{name, bit}], bit is
-- null for a rule that rejects.
create or replace function public.etl_rule_sums(p_table text, p_rules jsonb) returns jsonb
language plpgsql stable set search_path = '' set jit = off as
$$
declare
  target constant regclass := public.etl_table('clean', p_table);
  shape record;
  counts text;
  answer jsonb;
begin
  select * into shape from public.etl_shape(target);
  select string_agg(case when r ->> 'bit' is null
                      then format('%L, count(*) filter (where k.rule = %L)', r ->> 'name', r ->> 'name')
                      else format('%L, count(*) filter (where k.mask & %s <> 0)', r ->> 'name', 1::bigint << (r ->> 'bit')::integer) end, ', ')
  into counts from jsonb_array_elements(public.etl_json(p_rules)) r;
  execute format(
    'select jsonb_build_object(''read'', count(*), ''affected'', jsonb_build_object(%s)) from (
       select c.rule_mask as mask, null as rule from %s c
       where not exists (select from public.etl_reject_rows j where j."table" = %L and j.key <> '''' and j.key::%s = c.%s)
       union all
       select j.rule_mask, j.rule from public.etl_reject_rows j where j."table" = %L and j.key <> '''') k',
    counts, target, p_table, shape.key_type, shape.key, p_table)
  into answer;
  return answer;
end
$$;

-- The values of a column of cleaned rows, as text, by key: [[key, value]].
create or replace function public.etl_values(p_table text, p_column text, p_keys jsonb) returns jsonb
language plpgsql stable set search_path = '' as
$$
declare
  target constant regclass := public.etl_table('clean', p_table);
  shape record;
  answer jsonb;
begin
  select * into shape from public.etl_shape(target);
  execute format('select coalesce(jsonb_agg(jsonb_build_array(t.%1$s::text, t.%2$I::text)), ''[]'') from %3$s t where t.%1$s = any ($1::%4$s[])',
                 shape.key, p_column, target, shape.key_type)
  into answer using array(select jsonb_array_elements_text(public.etl_json(p_keys)));
  return answer;
end
$$;

-- Rows of a key range that are not what their row_hash says, since somebody changed them by hand, lose it: a full night
-- finds them as different then and writes them again. p_columns: what the hash is over, in order. Answers how many.
create or replace function public.etl_mark_wrong(p_run text, p_token text, p_table text, p_columns jsonb, p_after text, p_until text)
returns jsonb language plpgsql set search_path = '' set timezone = 'UTC' set datestyle = 'ISO' set extra_float_digits = 1 as
$$
declare
  target constant regclass := public.etl_table('clean', p_table);
  shape record;
  texts text;
  marked bigint;
begin
  perform public.etl_require_lease(p_run, p_token);
  select * into shape from public.etl_shape(target);
  select string_agg(format('coalesce(%s, E''\x1e'')', case format_type(a.atttypid, null)
           when 'timestamp with time zone' then format('(extract(epoch from t.%I) * 1000000)::bigint::text', a.attname)
           when 'double precision' then format('encode(float8send(t.%I), ''hex'')', a.attname)
           else format('t.%I::text', a.attname) end), ', ' order by c.ordinality)
  into texts
  from jsonb_array_elements_text(public.etl_json(p_columns)) with ordinality c (name, ordinality)
  join pg_catalog.pg_attribute a on a.attrelid = target and a.attname = c.name and not a.attisdropped;
  execute format('update %s t set row_hash = '''' where t.row_hash <> '''' and t.row_hash <> md5(concat_ws(E''\x1f'', %s)) %s %s',
                 target, texts,
                 case when p_after <> '' then format('and t.%s > %L::%s', shape.key, p_after, shape.key_type) else '' end,
                 case when p_until <> '' then format('and t.%s <= %L::%s', shape.key, p_until, shape.key_type) else '' end);
  get diagnostics marked = row_count;
  return to_jsonb(marked);
end
$$;

do $$
declare
  f regprocedure;
begin
  for f in select p.oid from pg_proc p where p.pronamespace = 'public'::regnamespace and p.proname in ('etl_rule_sums', 'etl_values', 'etl_mark_wrong') loop
    execute format('revoke all on function %s from public, anon, authenticated', f);
    execute format('grant execute on function %s to etl, service_role', f);
  end loop;
end
$$;
