-- What a run asks before it reads: do the sources exist, are they keyed, and does this role see every row of them?
-- And where to cut a table into key ranges of about equal size.

-- The relations behind a source, and as which role each is read: a view reads as its owner, unless it is a
-- security_invoker view. Tables come back as they are.
create or replace function public.etl_relations_behind(p_relation oid)
returns table (relation oid, reader oid, kind "char")
language sql stable security invoker set search_path = ''
as $$
  with recursive behind as (
    select c.oid as relation, r.oid as reader, c.relkind as kind
    from pg_catalog.pg_class c, pg_catalog.pg_roles r
    where c.oid = p_relation and r.rolname = current_user
    union
    select u.oid,
           case when coalesce(v.reloptions, '{}') && '{security_invoker=true,security_invoker=on,security_invoker=1}'::text[]
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

-- Why row-level security hides rows of a source from this role; empty when it hides none. A permissive policy
-- `using (true)` without a restrictive one shows everything.
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
  ), views as (
    select b.relation from public.etl_relations_behind(p_relation) b
    where b.kind = 'v'
      and pg_catalog.pg_get_viewdef(b.relation) ~* '\m(current_user|session_user|current_role|current_setting|auth\.(uid|jwt|role|email))\M'
  )
  select coalesce(array_agg(reason order by reason), '{}') from (
    select format('row-level security of %s hides rows from the role %s', j.oid::regclass, j.rolname) as reason
    from judged j where j.restricted or not j.shown
    union all
    select format('the view %s shows each role other rows', v.relation::regclass) from views v
  ) reasons
$$;

-- Whether a column is a key: unique by an index over it alone, and never null. What has no such index (a view) is
-- looked through.
create or replace function public.etl_key_state(p_relation oid, p_key text)
returns jsonb
language plpgsql stable security invoker set search_path = ''
as $$
declare
  v_kind "char";
  v_unique boolean;
  v_not_null boolean;
  v_name text := p_relation::regclass::text;
begin
  select c.relkind, a.attnotnull,
         exists (
           select 1 from pg_catalog.pg_index i
           where i.indrelid = c.oid and i.indisunique and i.indisvalid and i.indimmediate
             and i.indpred is null and i.indexprs is null and i.indnkeyatts = 1 and i.indkey[0] = a.attnum)
    into v_kind, v_not_null, v_unique
  from pg_catalog.pg_class c join pg_catalog.pg_attribute a on a.attrelid = c.oid
  where c.oid = p_relation and a.attname = p_key and not a.attisdropped;
  if v_kind in ('v', 'm', 'f') and not (v_unique and v_not_null) then
    execute format('select not exists (select 1 from %s where %I is null)', v_name, p_key) into v_not_null;
    execute format('select not exists (select 1 from %s group by %I having count(*) > 1)', v_name, p_key) into v_unique;
  end if;
  return jsonb_build_object('unique', v_unique, 'not_null', v_not_null);
end
$$;

-- The planner's estimate: right for views and partitions too, and usable before the first `analyze`.
create or replace function public.etl_estimated_rows(p_relation oid)
returns bigint
language plpgsql volatile security invoker set search_path = ''
as $$
declare
  v_plan json;
begin
  execute format('explain (format json) select 1 from %s', p_relation::regclass) into v_plan;
  return (v_plan -> 0 -> 'Plan' ->> 'Plan Rows')::numeric::bigint;
end
$$;

-- p_tables: [{"schema", "table", "key", "columns": [names]}]. Returns the database's clock, the role, and per table
-- what a run must know before it reads it; in the order given.
create or replace function public.etl_preflight(p_tables jsonb)
returns jsonb
language plpgsql volatile security invoker set search_path = ''
as $$
declare
  v_tables jsonb := case jsonb_typeof(p_tables) when 'string' then (p_tables #>> '{}')::jsonb else p_tables end;
  v_wanted jsonb;
  v_found jsonb;
  v_result jsonb := '[]';
  v_relation oid;
  v_unreadable text[];
begin
  for v_wanted in select value from jsonb_array_elements(v_tables) loop
    select c.oid into v_relation
    from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where n.nspname = v_wanted ->> 'schema' and c.relname = v_wanted ->> 'table' and c.relkind in ('r', 'p', 'v', 'm', 'f');
    v_found := jsonb_build_object(
      'schema', v_wanted ->> 'schema', 'table', v_wanted ->> 'table', 'exists', v_relation is not null);
    if v_relation is not null then
      select array_agg(a.attname order by a.attnum) into v_unreadable
      from pg_catalog.pg_attribute a
      where a.attrelid = v_relation and a.attnum > 0 and not a.attisdropped
        and a.attname in (select jsonb_array_elements_text(v_wanted -> 'columns'))
        and not pg_catalog.has_column_privilege(v_relation, a.attnum, 'select');
      v_found := v_found || jsonb_build_object(
        'columns', (
          select jsonb_object_agg(a.attname, case t.typtype when 'e' then 'enum' else
            pg_catalog.format_type(coalesce(nullif(t.typbasetype, 0), t.oid), null) end)
          from pg_catalog.pg_attribute a join pg_catalog.pg_type t on t.oid = a.atttypid
          where a.attrelid = v_relation and a.attnum > 0 and not a.attisdropped
            and a.attname in (select jsonb_array_elements_text(v_wanted -> 'columns'))),
        'schema_usable', pg_catalog.has_schema_privilege(v_wanted ->> 'schema', 'usage'),
        'unreadable', coalesce(to_jsonb(v_unreadable), '[]'),
        'row_filters', to_jsonb(public.etl_row_filters(v_relation)));
      if v_unreadable is null and v_found -> 'schema_usable' = 'true' and v_found -> 'columns' ? (v_wanted ->> 'key') then
        v_found := v_found || jsonb_build_object(
          'key', public.etl_key_state(v_relation, v_wanted ->> 'key'),
          'rows', public.etl_estimated_rows(v_relation));
      end if;
    end if;
    v_result := v_result || jsonb_build_array(v_found);
  end loop;
  return jsonb_build_object('clock', clock_timestamp(), 'role', current_user, 'tables', v_result);
end
$$;

-- Keys that cut a table into p_parts ranges of about equal rows, as text in key order. A sample of pages serves, so
-- neither statistics nor the spread of the keys matter; a relation without pages of its own is looked through whole.
create or replace function public.etl_sample_keys(p_schema text, p_table text, p_key text, p_parts int)
returns jsonb
language plpgsql stable security invoker set search_path = ''
as $$
declare
  v_relation regclass := format('%I.%I', p_schema, p_table)::regclass;
  v_pages numeric;
  v_sample text := '';
  v_cuts jsonb;
begin
  if p_parts < 2 then
    return '[]';
  end if;
  select sum(pg_catalog.pg_relation_size(t.relid)) / current_setting('block_size')::numeric into v_pages
  from pg_catalog.pg_partition_tree(v_relation) t;
  if v_pages is null then
    v_pages := pg_catalog.pg_relation_size(v_relation) / current_setting('block_size')::numeric;
  end if;
  if v_pages > 1000 then
    v_sample := format('tablesample system (%s) repeatable (7)', greatest(100000 / v_pages, 0.001));
  end if;
  execute format(
    'select to_jsonb(array(select distinct cut from unnest(percentile_disc(array(
       select i::float8 / $1 from generate_series(1, $1 - 1) i)) within group (order by %1$I)) as cut
       where cut is not null order by cut)::text[]) from %2$s %3$s', p_key, v_relation, v_sample)
    using p_parts into v_cuts;
  return coalesce(v_cuts, '[]');
end
$$;

do $$
declare
  v_function regprocedure;
  v_role text;
begin
  foreach v_function in array array[
    'public.etl_relations_behind(oid)', 'public.etl_row_filters(oid)', 'public.etl_key_state(oid, text)',
    'public.etl_estimated_rows(oid)', 'public.etl_preflight(jsonb)', 'public.etl_sample_keys(text, text, text, int)'
  ]::regprocedure[] loop
    execute format('revoke all on function %s from public', v_function);
    foreach v_role in array array['anon', 'authenticated'] loop
      if exists (select 1 from pg_catalog.pg_roles where rolname = v_role) then
        execute format('revoke all on function %s from %I', v_function, v_role);
      end if;
    end loop;
    foreach v_role in array array['service_role', 'etl'] loop
      if exists (select 1 from pg_catalog.pg_roles where rolname = v_role) then
        execute format('grant execute on function %s to %I', v_function, v_role);
      end if;
    end loop;
  end loop;
end
$$;
