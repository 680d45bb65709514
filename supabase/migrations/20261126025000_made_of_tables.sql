-- What somebody else may have made of a table. A key of a source that is declared not null may hold nulls all the same: PostgreSQL 18
-- has such constraints as NOT VALID. And a cleaned table may have been made a partitioned one, or a column of ours one that the
-- database fills itself, which no load writes: the load said so, in the words of PostgreSQL, after all was read.

set local lock_timeout = '5s';

-- Whether the key of a source is unique and without nulls: from the catalog where that says so, else from the rows.
create or replace function public.etl_key_state(p_relation oid, p_key text)
returns jsonb
language plpgsql stable security invoker set search_path = '' set work_mem = '64MB' set jit = off
as $$
declare
  v_looked boolean;
  v_unique boolean;
  v_not_null boolean;
  v_unverified boolean := exists (
    select from pg_catalog.pg_constraint k
    join pg_catalog.pg_attribute a on a.attrelid = k.conrelid and a.attnum = k.conkey[1]
    where k.conrelid = p_relation and k.contype = 'n' and not k.convalidated and a.attname = p_key);
begin
  select a.attnotnull and not v_unverified,
         exists (
           select 1 from pg_catalog.pg_index i
           where i.indrelid = c.oid and i.indisunique and i.indisvalid and i.indimmediate
             and i.indpred is null and i.indexprs is null and i.indnkeyatts = 1 and i.indkey[0] = a.attnum),
         c.relkind in ('v', 'm', 'f', 'p')
    into v_not_null, v_unique, v_looked
  from pg_catalog.pg_class c join pg_catalog.pg_attribute a on a.attrelid = c.oid
  where c.oid = p_relation and a.attname = p_key and not a.attisdropped;
  v_looked := (v_looked or v_unique and v_unverified) and not (v_unique and v_not_null)
    or exists (select from pg_catalog.pg_inherits i join pg_catalog.pg_class c on c.oid = i.inhparent
               where c.oid = p_relation and c.relkind = 'r');
  if v_looked then
    -- offset 0: the rows come in the order in which they are read soonest.
    execute format(
      'select coalesce(bool_and(g.n = 1), true), coalesce(bool_and(g.k is not null), true) '
      'from (select s.k, count(*) as n from (select %I as k from %s offset 0) s group by s.k) g',
      p_key, p_relation::regclass::text) into v_unique, v_not_null;
  end if;
  return jsonb_build_object('unique', v_unique, 'not_null', v_not_null, 'looked', v_looked);
end
$$;

-- What our tables look like, from the catalog, as before. filled_by: what the database fills the column
-- by, and takes no value for it: an expression, an identity; else null.
create or replace function public.etl_own_tables() returns jsonb
language sql stable set search_path = '' as $$
  with ours as (
    select t.kind, t.name, t.relation from public.etl_tables() t
    union all
    select 'rejects', 'etl_reject_rows', 'public.etl_reject_rows'::regclass
  ), described as (
    select c.relname, c.relkind, o.kind, o.name,
      (select jsonb_object_agg(a.attname, jsonb_build_object(
         'type', pg_catalog.format_type(a.atttypid, a.atttypmod), 'required', a.attnotnull,
         'filled_by', case when a.attgenerated <> '' then 'expression' when a.attidentity = 'a' then 'identity' end))
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
      'kind', d.kind, 'name', d.name, 'partitioned', d.relkind = 'p', 'columns', d.columns, 'key', coalesce(d.key, '[]'))))
  from described d
$$;

-- As before; a partitioned table takes no such settings, and the look at our tables names it.
create or replace function public.etl_make_indexes() returns jsonb
language plpgsql set search_path = '' as
$$
declare
  item record;
  made jsonb := '[]';
begin
  for item in
    with wanted as (
      select t.relation, w.name, format('(%1$I) where %1$I is not null', w.column_name) as definition, w.column_name
      from public.etl_tables() t
      join (values ('posts', 'user_id', 'etl_clean_posts_user_id'), ('users', 'duplicate_of', 'etl_clean_users_duplicate_of'),
                   ('users', 'email', 'etl_clean_users_email')) w (table_name, column_name, name)
        on w.table_name = t.name
      where t.kind = 'clean'
      union all
      select t.relation, 'etl_' || t.name || '_fingerprints', format('(%s) include (fingerprint)', s.key), 'fingerprint'
      from public.etl_tables() t cross join lateral public.etl_shape(t.relation) s
      where t.kind = 'clean'
    )
    select w.name, format('create index if not exists %I on %s %s', w.name, w.relation, w.definition) as statement
    from wanted w
    join pg_catalog.pg_attribute a on a.attrelid = w.relation and a.attname = w.column_name and not a.attisdropped
    where not exists (
      select from pg_catalog.pg_index i join pg_catalog.pg_class c on c.oid = i.indexrelid
      where i.indrelid = w.relation and c.relname = w.name::name)
    union all
    select o.name, format('alter table %s set (%s = 0.003)', t.relation, o.name)
    from public.etl_tables() t
    join pg_catalog.pg_class c on c.oid = t.relation
    cross join (values ('autovacuum_vacuum_scale_factor'), ('autovacuum_vacuum_insert_scale_factor')) o (name)
    where t.kind = 'clean' and c.relkind = 'r'
      and not exists (select from unnest(c.reloptions) r (setting) where starts_with(r.setting, o.name || '='))
  loop
    execute item.statement;
    made := made || to_jsonb(item.name);
  end loop;
  return made;
end
$$;

create or replace function public.etl_release() returns text
language sql immutable set search_path = '' as $$ select '20261126025000' $$;
