-- Functions that a source view calls can hide rows as row-level security does, without a policy to look at: a run refuses
-- them unless ETL_TRUSTED_FUNCTIONS names them. And the preflight and the sampling of a view look through all of its rows:
-- over REST they get the 60 s that the API allows, in place of the role's 8 s.

-- What the views behind a source call, as schema.name: no functions of PostgreSQL's own or of an extension, by name or by
-- way of an operator.
create or replace function public.etl_view_functions(p_relation oid)
returns text[]
language sql stable security invoker set search_path = ''
as $$
  with rules as (
    select w.oid from public.etl_relations_behind(p_relation) b
    join pg_catalog.pg_rewrite w on w.ev_class = b.relation
    where b.kind = 'v'
  ), called as (
    select d.refobjid as oid from rules r
    join pg_catalog.pg_depend d
      on d.classid = 'pg_catalog.pg_rewrite'::regclass and d.objid = r.oid and d.refclassid = 'pg_catalog.pg_proc'::regclass
    union
    select o.oprcode from rules r
    join pg_catalog.pg_depend d
      on d.classid = 'pg_catalog.pg_rewrite'::regclass and d.objid = r.oid and d.refclassid = 'pg_catalog.pg_operator'::regclass
    join pg_catalog.pg_operator o on o.oid = d.refobjid
  )
  select coalesce(array_agg(distinct format('%s.%s', n.nspname, p.proname)), '{}')
  from called c
  join pg_catalog.pg_proc p on p.oid = c.oid
  join pg_catalog.pg_namespace n on n.oid = p.pronamespace and n.nspname <> 'pg_catalog'
  where not exists (
    select 1 from pg_catalog.pg_depend e
    where e.classid = 'pg_catalog.pg_proc'::regclass and e.objid = p.oid and e.deptype = 'e')
$$;

-- p_tables: [{"schema", "table", "key", "columns": [names]}]. Returns the database's clock, the role, and per table
-- what a run must know before it reads it; in the order given.
create or replace function public.etl_preflight(p_tables jsonb)
returns jsonb
language plpgsql volatile security invoker set search_path = '' set statement_timeout = '60s'
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
        'row_filters', to_jsonb(public.etl_row_filters(v_relation)),
        'functions', to_jsonb(public.etl_view_functions(v_relation)));
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

alter function public.etl_sample_keys(text, text, text, int) set statement_timeout = '60s';

revoke all on function public.etl_view_functions(oid), public.etl_preflight(jsonb) from public, anon, authenticated;
grant execute on function public.etl_view_functions(oid), public.etl_preflight(jsonb) to etl, service_role;

notify pgrst, 'reload schema';
