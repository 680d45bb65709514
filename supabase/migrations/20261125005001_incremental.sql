-- What incremental nights need: a fingerprint of every source row, stored with its cleaned row or its reject; which rows
-- changed since; and the run whose files the next night starts from.

set local lock_timeout = '5s';

-- The secret behind the fingerprints: without it nobody can make two rows that have the same one. Read by etl_seed_value
-- alone, which nothing but our own queries calls.
create table if not exists public.etl_seed (
  only_row boolean primary key default true check (only_row),
  id uuid not null default gen_random_uuid(),
  seed bigint not null
);
comment on table public.etl_seed is 'The secret seed of the fingerprints; one row. Another seed makes the next night a full one.';
alter table public.etl_seed enable row level security;
revoke all on public.etl_seed from public, anon, authenticated, service_role, etl;
insert into public.etl_seed (seed) values (hashtextextended(gen_random_uuid()::text || gen_random_uuid()::text, 0)) on conflict do nothing;

create or replace function public.etl_seed_value() returns bigint
language sql stable parallel safe security definer set search_path = '' as
$$ select s.seed from public.etl_seed s $$;

-- Which seed it is, without the seed.
create or replace function public.etl_seed_id() returns jsonb
language sql stable security definer set search_path = '' as
$$ select to_jsonb(s.id::text) from public.etl_seed s $$;

-- Of the rejects; the cleaned tables have the same two from the contracts. They never leave in a file.
alter table public.etl_reject_rows
  add column if not exists fingerprint bigint,
  add column if not exists rule_mask bigint,
  add column if not exists in_file jsonb;
comment on column public.etl_reject_rows.fingerprint is 'Of the source row as it was read; null for a row that the database refused: it is tried every night.';
comment on column public.etl_reject_rows.rule_mask is 'The rules before the rejecting one that changed the row, a bit each.';
comment on column public.etl_reject_rows.in_file is 'Of a refused row, which the files hold: created_at and user_id, where it has them.';

-- For the look-ups of what depends on a changed row. A contract may lack a column: then nothing can depend on it.
do $$
declare
  item record;
begin
  for item in
    select t.relation, w.name, w.column_name from public.etl_tables() t
    join (values ('posts', 'user_id', 'etl_clean_posts_user_id'), ('users', 'duplicate_of', 'etl_clean_users_duplicate_of'),
                 ('users', 'email', 'etl_clean_users_email')) w (table_name, column_name, name)
      on w.table_name = t.name
    join pg_attribute a on a.attrelid = t.relation and a.attname = w.column_name and not a.attisdropped
    where t.kind = 'clean'
  loop
    execute format('create index if not exists %I on %s (%I) where %I is not null', item.name, item.relation, item.column_name, item.column_name);
  end loop;
end
$$;

-- The run whose files the next incremental night starts from. dirty: rows were written that no commit vouches for.
create table if not exists public.etl_base (
  only_row boolean primary key default true check (only_row),
  run_id text,
  dirty boolean not null
);
comment on table public.etl_base is 'The last committed run that was not historical, and whether a load over REST broke off since; one row.';
alter table public.etl_base enable row level security;
revoke all on public.etl_base from public, anon, authenticated;
grant select, insert, update, delete on public.etl_base to etl, service_role;
drop policy if exists etl_all on public.etl_base;
create policy etl_all on public.etl_base to etl using (true) with check (true);

-- The base moves in the transaction of the commit, and is dirty from the transaction on that enters a load over REST.
create or replace function public.etl_move_base() returns trigger
language plpgsql set search_path = '' as
$$
declare
  base public.etl_base;
begin
  if new.kind <> 'run' or new.historical then
    return null;
  end if;
  if new.status = 'loading' and old.status <> 'loading' and new.transport = 'rest' then
    insert into public.etl_base as b (run_id, dirty) values (null, true)
    on conflict (only_row) do update set dirty = true;
  elsif new.status = 'committed' and old.status <> 'committed' then
    select * into base from public.etl_base;
    if new.counts ->> 'mode' = 'incremental' and base.run_id is distinct from new.counts ->> 'base_run' then
      raise exception 'run % started from run %, and the base is run %', new.run_id, new.counts ->> 'base_run', base.run_id
        using errcode = 'ET004';
    end if;
    insert into public.etl_base as b (run_id, dirty) values (new.run_id, coalesce((new.counts ->> 'base_dirty')::boolean, false))
    on conflict (only_row) do update set run_id = excluded.run_id, dirty = excluded.dirty;
  end if;
  return null;
end
$$;
drop trigger if exists etl_move_base on public.etl_runs;
create trigger etl_move_base after update of status on public.etl_runs for each row execute function public.etl_move_base();

-- The base and its run, {run_id, dirty, run}; null when there never was one.
create or replace function public.etl_base_run() returns jsonb
language sql stable set search_path = '' as
$$
  select jsonb_build_object('run_id', b.run_id, 'dirty', b.dirty, 'run', public.etl_run_json(r), 'seed', public.etl_seed_id())
  from public.etl_base b left join public.etl_runs r on r.run_id = b.run_id
$$;

-- A mistrusted base: the next night reads everything.
create or replace function public.etl_distrust_base(p_run text, p_token text) returns jsonb
language plpgsql set search_path = '' as
$$
begin
  perform public.etl_require_lease(p_run, p_token);
  update public.etl_base set dirty = true;
  return 'true';
end
$$;

-- How a source is read: its relation, its key, the expression of the fingerprint, and the select list for JSON. p_source:
-- {schema, table, key, columns: [{name, source, kind}]}. The fingerprint is of exactly what the read selects: equal
-- fingerprints, equal values. Text is hashed byte for byte, whatever its collation, and floats by their bytes.
create or replace function public.etl_source_shape(p_source jsonb)
returns table (relation text, key text, key_type text, fingerprint text, members text)
language sql stable set search_path = '' as
$$
  with given as (
    select public.etl_json(p_source) as x
  ), columns as (
    select c.ordinality as place, c.value ->> 'name' as name, c.value ->> 'kind' as kind, format('s.%I', a.attname) as cell,
           case t.typtype when 'e' then 'enum' else format_type(coalesce(nullif(t.typbasetype, 0), t.oid), null) end as type,
           c.value ->> 'source' = g.x ->> 'key' as is_key
    from given g
    cross join jsonb_array_elements(g.x -> 'columns') with ordinality c
    join pg_catalog.pg_attribute a
      on a.attrelid = format('%I.%I', g.x ->> 'schema', g.x ->> 'table')::regclass
     and a.attname = c.value ->> 'source' and a.attnum > 0 and not a.attisdropped
    join pg_catalog.pg_type t on t.oid = a.atttypid
  ), written as (
    select c.*,
      case
        when kind = 'timestamptz' and type <> 'timestamp with time zone' then format('(%s::timestamp at time zone ''UTC'')', cell)
        when kind in ('bigint', 'int') then cell || '::bigint'
        when kind = 'float' and type <> 'numeric' then format('float8send(%s::text::float8)', cell)
        when kind in ('float', 'text') or (kind = 'uuid' and type <> 'uuid') then format('(%s::text collate "C")', cell)
        else cell
      end as hashed,
      case
        when kind = 'timestamptz' and type <> 'timestamp with time zone' then format('(%s::timestamp at time zone ''UTC'')', cell)
        when kind in ('bigint', 'int') then cell || '::bigint::text'
        when kind = 'float' or type in ('enum', 'name') then cell || '::text'
        else cell
      end as shown
    from columns c
  )
  select format('%I.%I', g.x ->> 'schema', g.x ->> 'table'),
         (select w.cell from written w where w.is_key),
         (select case w.kind when 'uuid' then 'uuid' when 'bigint' then 'bigint' else 'text' end from written w where w.is_key),
         (select format('hash_record_extended(row(%s), (select public.etl_seed_value()))', string_agg(w.hashed, ', ' order by w.place))
          from written w),
         (select string_agg(format('%s as %I', w.shown, w.name), ', ' order by w.place) from written w)
  from given g
$$;

-- The expression of the fingerprint, for a query on the source as `s`.
create or replace function public.etl_fingerprint_sql(p_source jsonb) returns jsonb
language sql stable set search_path = '' as
$$ select to_jsonb(s.fingerprint) from public.etl_source_shape(p_source) s $$;

-- One page of rows in key order, each with its fingerprint: keys after p_after up to p_until, '' for an open end.
-- Whole numbers and the fingerprint go as text, since a JSON parser on the way may round them.
create or replace function public.etl_rows(p_source jsonb, p_after text, p_until text, p_limit jsonb) returns json
language plpgsql stable set search_path = '' set timezone = 'UTC' set datestyle = 'ISO' set extra_float_digits = 1 as
$$
declare
  shape record;
  answer json;
begin
  select * into shape from public.etl_source_shape(p_source);
  execute format(
    'select coalesce(json_agg(r), ''[]'') from (select %s, %s::text as _fingerprint from %s s where true %s %s order by %s limit %s) r',
    shape.members, shape.fingerprint, shape.relation,
    case when p_after <> '' then format('and %s > %L::%s', shape.key, p_after, shape.key_type) else '' end,
    case when p_until <> '' then format('and %s <= %L::%s', shape.key, p_until, shape.key_type) else '' end,
    shape.key, (public.etl_json(p_limit) #>> '{}')::integer)
  into answer;
  return answer;
end
$$;

-- The rows of these keys that exist, in key order.
create or replace function public.etl_rows_by_key(p_source jsonb, p_keys jsonb) returns json
language plpgsql stable set search_path = '' set timezone = 'UTC' set datestyle = 'ISO' set extra_float_digits = 1 as
$$
declare
  shape record;
  answer json;
begin
  select * into shape from public.etl_source_shape(p_source);
  execute format(
    'select coalesce(json_agg(r), ''[]'') from (select %s, %s::text as _fingerprint from %s s where %s = any ($1::%s[]) order by %s) r',
    shape.members, shape.fingerprint, shape.relation, shape.key, shape.key_type, shape.key)
  into answer
  using array(select jsonb_array_elements_text(public.etl_json(p_keys)));
  return answer;
end
$$;

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
    'select c.%1$s as key, c.fingerprint as fp, false as retry, true as in_clean, false as refused from %2$s c
     where not exists (select from public.etl_reject_rows j where j."table" = %3$L and j.key <> '''' and j.key::%4$s = c.%1$s) %5$s
     union all
     select j.key::%4$s, j.fingerprint, j.rule in (''refused_by_database'', ''created_in_future'') or j.fingerprint is null,
            j.rule = ''refused_by_database'' and exists (select from %2$s c where c.%1$s = j.key::%4$s),
            j.rule = ''refused_by_database''
     from public.etl_reject_rows j where j."table" = %3$L and j.key <> '''' %6$s',
    shape.key, target, p_table, shape.key_type, replace(bounds, 'key_', 'c.' || shape.key),
    replace(bounds, 'key_', format('j.key::%s', shape.key_type)));
end
$$;

-- The query that finds changes: a row per key that differs or is to be tried again, and one without a key for all others.
-- there: at the source. fp: fingerprints at the source, known: stored ones, both summed. Nothing leaves but what differs.
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
           from (select %1$s::%2$s as key, %3$s as fp from %4$s s where true %5$s %6$s) s
           full join (%7$s) k on k.key = s.key) x
     group by 1',
    shape.key, shape.key_type, shape.fingerprint, shape.relation,
    case when p_after <> '' then format('and %s > %L::%s', shape.key, p_after, shape.key_type) else '' end,
    case when p_until <> '' then format('and %s <= %L::%s', shape.key, p_until, shape.key_type) else '' end,
    public.etl_known_sql(p_table, p_after, p_until)));
end
$$;

-- The same for one key range, over REST: {changed: [[key, there, fingerprint]], more, source_rows, source_sum, known_rows,
-- known_sum, target_rows}; sums as text. At most p_most keys; `more` says that there are others.
create or replace function public.etl_find_changes(p_table text, p_source jsonb, p_after text, p_until text, p_most jsonb) returns jsonb
language plpgsql stable set search_path = '' set timezone = 'UTC' set datestyle = 'ISO' set extra_float_digits = 1
set work_mem = '64MB' set jit = off as
$$
declare
  most constant integer := (public.etl_json(p_most) #>> '{}')::integer;
  answer jsonb;
begin
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

-- Keys that cut what is known into p_parts ranges: an emptied source still has its known rows.
create or replace function public.etl_sample_known(p_table text, p_parts jsonb) returns jsonb
language plpgsql stable set search_path = '' as
$$
declare
  target constant regclass := public.etl_table('clean', p_table);
begin
  return public.etl_sample_keys(n.nspname, c.relname, shape.key_name, (public.etl_json(p_parts) #>> '{}')::integer)
  from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace, public.etl_shape(target) shape
  where c.oid = target;
end
$$;

-- How many rows are known, and the sum of their fingerprints; of refused rows nothing is known. Equal to the source's
-- when nothing was missed.
create or replace function public.etl_known_sum(p_table text) returns jsonb
language plpgsql stable set search_path = '' set jit = off as
$$
declare
  answer jsonb;
begin
  execute format('select jsonb_build_object(''rows'', count(*), ''sum'', coalesce(sum(k.fp), 0)::text) from (%s) k where not k.refused',
                 public.etl_known_sql(p_table, '', '')) into answer;
  return answer;
end
$$;

-- What is stored for these keys, a list each: key, row_hash, fingerprint, rule_mask, created_at and user_id of the cleaned row
-- (row_hash is null without one); rule, fingerprint, rule_mask, created_at, user_id and id of the reject (rule is null without).
create or replace function public.etl_known(p_table text, p_keys jsonb) returns jsonb
language plpgsql stable set search_path = '' set timezone = 'UTC' set datestyle = 'ISO' as
$$
declare
  target constant regclass := public.etl_table('clean', p_table);
  shape record;
  column_of constant jsonb := (
    select jsonb_object_agg(a.attname, format('to_jsonb(c.%I)', a.attname)) from pg_catalog.pg_attribute a
    where a.attrelid = target and a.attname in ('created_at', 'user_id') and not a.attisdropped);
  answer jsonb;
begin
  select * into shape from public.etl_shape(target);
  execute format(
    'with wanted as (select k from jsonb_array_elements_text($1) k)
     select coalesce(jsonb_agg(jsonb_build_array(w.k, c.row_hash, c.fingerprint::text, c.rule_mask::text, %s, %s,
              j.rule, j.fingerprint::text, j.rule_mask::text, j.in_file -> ''created_at'', j.in_file -> ''user_id'', j.id)), ''[]'')
     from wanted w
     left join %s c on c.%s = w.k::%s
     left join public.etl_reject_rows j on j."table" = %L and j.key = w.k
     where c.row_hash is not null or j.rule is not null',
    coalesce(column_of ->> 'created_at', 'null'), coalesce(column_of ->> 'user_id', 'null'), target, shape.key, shape.key_type, p_table)
  into answer using public.etl_json(p_keys);
  return answer;
end
$$;

-- Keys of cleaned rows whose column has one of these values: what depends on a changed row.
create or replace function public.etl_dependents(p_table text, p_column text, p_values jsonb) returns jsonb
language plpgsql stable set search_path = '' as
$$
declare
  target constant regclass := public.etl_table('clean', p_table);
  shape record;
  type_of text;
  answer jsonb;
begin
  select * into shape from public.etl_shape(target);
  select format_type(a.atttypid, null) into type_of
  from pg_catalog.pg_attribute a where a.attrelid = target and a.attname = p_column and not a.attisdropped;
  if type_of is null then
    return '[]';
  end if;
  execute format('select coalesce(jsonb_agg(t.%s::text), ''[]'') from %s t where t.%I = any ($1::%s[])',
                 shape.key, target, p_column, type_of)
  into answer using array(select jsonb_array_elements_text(public.etl_json(p_values)));
  return answer;
end
$$;

-- Keys of rejected orphans whose author is one of these users.
create or replace function public.etl_orphans_of(p_table text, p_values jsonb) returns jsonb
language sql stable set search_path = '' as
$$
  select coalesce(jsonb_agg(j.key), '[]') from public.etl_reject_rows j
  where j."table" = p_table and j.rule = 'orphan' and j.came = any (array(select jsonb_array_elements_text(public.etl_json(p_values))))
$$;

-- Months, as 2026-01, that hold posts of these users: cleaned rows, and refused ones, which the files hold too.
create or replace function public.etl_months_of(p_table text, p_column text, p_values jsonb) returns jsonb
language plpgsql stable set search_path = '' set timezone = 'UTC' as
$$
declare
  target constant regclass := public.etl_table('clean', p_table);
  type_of text;
  answer jsonb;
begin
  select format_type(a.atttypid, null) into type_of
  from pg_catalog.pg_attribute a where a.attrelid = target and a.attname = 'user_id' and not a.attisdropped;
  execute format(
    'select coalesce(jsonb_agg(m.month), ''[]'') from (
       select to_char(t.%1$I, ''YYYY-MM'') as month from %2$s t where t.user_id = any ($1::%3$s[])
       union
       select to_char((j.in_file ->> %1$L)::timestamptz, ''YYYY-MM'') from public.etl_reject_rows j
       where j."table" = %4$L and j.rule = ''refused_by_database'' and j.in_file ->> ''user_id'' = any ($1)) m',
    p_column, target, type_of, p_table)
  into answer using array(select jsonb_array_elements_text(public.etl_json(p_values)));
  return answer;
end
$$;

-- Comparing and writing, with the new columns: the newest versions of five functions.

-- One page of a cleaned table, in key order, after a key: four texts joined by commas; an empty one stands for null.
create or replace function public.etl_target_page(p_table text, p_after text, p_limit jsonb) returns jsonb
language plpgsql stable set search_path = '' as
$$
declare
  target regclass := public.etl_table('clean', p_table);
  shape record;
  answer jsonb;
begin
  select * into shape from public.etl_shape(target);
  execute format(
    'select jsonb_build_object(''ids'', string_agg(x.id, '',''), ''hashes'', string_agg(x.row_hash, '',''),
       ''fingerprints'', string_agg(coalesce(x.fingerprint::text, ''''), '',''),
       ''masks'', string_agg(coalesce(x.rule_mask::text, ''''), '',''), ''rows'', count(*))
     from (select t.%1$s::text as id, t.row_hash, t.fingerprint, t.rule_mask from %2$s t %3$s order by t.%1$s limit %4$s) x',
    shape.key, target, case when p_after <> '' then format('where t.%s > %L::%s', shape.key, p_after, shape.key_type) else '' end,
    (public.etl_json(p_limit) #>> '{}')::integer
  ) into answer;
  return answer;
end
$$;

-- One page of the rejects of a table, in order of id; `hash` tells whether anything about it changed.
create or replace function public.etl_rejects_page(p_table text, p_after text, p_limit jsonb) returns jsonb
language sql stable set search_path = '' as
$$
  select jsonb_build_object('ids', coalesce(jsonb_agg(x.id), '[]'), 'hashes', coalesce(jsonb_agg(x.hash), '[]'))
  from (
    select j.id, md5(concat_ws(E'\x1f', coalesce(j."column", E'\x1e'), coalesce(j.came, E'\x1e'), coalesce(j.expected, E'\x1e'),
                               coalesce(j.fingerprint::text, E'\x1e'), coalesce(j.rule_mask::text, E'\x1e'))) as hash
    from public.etl_reject_rows j
    where j."table" = p_table and j.rule <> 'refused_by_database' and j.id > p_after
    order by j.id limit (public.etl_json(p_limit) #>> '{}')::integer
  ) x
$$;

-- Insert or update rows by their hash, fingerprint and rule mask; a row that the database refuses costs itself only: the rows are cut in two until it
-- is found. Rows come as JSON, or from the temporary table etl_stage_<table> with a column _n that counts from 1.
create or replace function public.etl_upsert(p_table text, p_rows jsonb, p_count bigint, p_limit bigint) returns jsonb
language plpgsql set search_path = '' as
$$
declare
  target regclass := public.etl_table('clean', p_table);
  stage constant text := format('pg_temp.%I', 'etl_stage_' || p_table);
  shape record;
  statement text;
  source text;
  todo bigint[] := array[1, p_count];
  low bigint;
  high bigint;
  cut boolean := false;
  got_inserted bigint;
  got_updated bigint;
  inserted bigint := 0;
  updated bigint := 0;
  refused jsonb := '[]';
  code text;
  constraint_of text;
  column_of text;
  key_of text;
begin
  select * into shape from public.etl_shape(target);
  -- Rows are written where anything of ours differs, and count as updated where the cleaned row itself does.
  statement := format(
    'with given as materialized (%%s),
     same as (select t.%3$s as key from %1$s t join given g on g.%3$s = t.%3$s where t.row_hash = g.row_hash),
     written as (
       insert into %1$s as t (%2$s) select %2$s from given s
       on conflict (%3$s) do update set %4$s
       where (t.row_hash, t.fingerprint, t.rule_mask) is distinct from (excluded.row_hash, excluded.fingerprint, excluded.rule_mask)
       returning t.%3$s as key, (t.xmax = 0) as is_new)
     select count(*) filter (where w.is_new), count(*) filter (where not w.is_new and s.key is null)
     from written w left join same s on s.key = w.key',
    target, shape.columns, shape.key, shape.assignments);
  source := case when p_rows is null
    then format('select %s from %s s %%s', shape.casts, stage)
    else format('select r.* from jsonb_populate_recordset(null::%s, $1) r', target) end;
  set constraints all immediate;  -- a deferred constraint speaks up here, where its row can still be told
  while cardinality(todo) > 0 loop
    low := todo[1];
    high := todo[2];
    todo := todo[3:];
    continue when low > high;
    begin
      if p_rows is null then
        execute format(statement, format(source, case when cut then format('where s._n between %s and %s', low, high) else '' end))
        into got_inserted, got_updated;
      else
        execute format(statement, source)
        into got_inserted, got_updated
        using case when cut then jsonb_path_query_array(p_rows, format('$[%s to %s]', low - 1, high - 1)::jsonpath) else p_rows end;
      end if;
      inserted := inserted + got_inserted;
      updated := updated + got_updated;
    exception when others then
      -- What is about the connection, the server, our rights or our own SQL is no row's fault.
      if left(sqlstate, 2) in ('08', '0A', '25', '28', '40', '42', '53', '55', '57', '58', 'ET', 'XX') then
        raise;
      end if;
      if low < high then
        if p_rows is null and not cut then
          execute format('create unique index on %s (_n)', stage);
          execute format('analyze %s', stage);
        end if;
        cut := true;
        todo := array[low, (low + high) / 2, (low + high) / 2 + 1, high] || todo;
      else
        get stacked diagnostics code = returned_sqlstate, constraint_of = constraint_name, column_of = column_name;
        if p_rows is null then
          execute format('select s.%s::text from %s s where s._n = %s', shape.key, stage, low) into key_of;
        else
          key_of := p_rows -> (low - 1)::integer ->> shape.key_name;
        end if;
        refused := refused || jsonb_build_object('key', key_of, 'code', code, 'constraint', nullif(constraint_of, ''),
                                                 'column', nullif(column_of, ''));
        if jsonb_array_length(refused) > p_limit then
          raise exception 'more rows of % are refused than are borne, the last one with SQLSTATE %', p_table, code
            using errcode = 'ET003';
        end if;
      end if;
    end;
  end loop;
  return jsonb_build_object('inserted', inserted, 'updated', updated, 'refused', refused);
end
$$;

-- Rejects that are new or say something else than before. Who was first stays. Safe to send twice.
create or replace function public.etl_write_rejects(p_run text, p_token text, p_rows jsonb)
returns jsonb language plpgsql set search_path = '' as
$$
declare
  changed bigint;
begin
  perform public.etl_require_lease(p_run, p_token);
  insert into public.etl_reject_rows as j ("table", id, key, rule, "column", came, expected, fingerprint, rule_mask, first_run)
  select r."table", r.key || E'\x1f' || r.rule, r.key, r.rule, r."column", r.came, r.expected, r.fingerprint, r.rule_mask, p_run
  from jsonb_to_recordset(public.etl_json(p_rows))
    as r ("table" text, key text, rule text, "column" text, came text, expected text, fingerprint bigint, rule_mask bigint)
  on conflict ("table", id) do update
  set "column" = excluded."column", came = excluded.came, expected = excluded.expected,
      fingerprint = excluded.fingerprint, rule_mask = excluded.rule_mask
  where (j."column", j.came, j.expected, j.fingerprint, j.rule_mask)
        is distinct from (excluded."column", excluded.came, excluded.expected, excluded.fingerprint, excluded.rule_mask);
  get diagnostics changed = row_count;
  return to_jsonb(changed);
end
$$;

-- Which rows the database itself refused in this run; what it refused before and takes now is no reject any more. Without a
-- fingerprint: each is tried every night.
create or replace function public.etl_put_refused(p_run text, p_refused jsonb) returns void
language sql set search_path = '' as
$$
  delete from public.etl_reject_rows j
  where j.rule = 'refused_by_database'
    and (j."table", j.key) not in (select r."table", r.key from jsonb_to_recordset(p_refused) as r ("table" text, key text));
  insert into public.etl_reject_rows as j ("table", id, key, rule, "column", came, expected, rule_mask, in_file, first_run)
  select r."table", r.key || E'\x1frefused_by_database', r.key, 'refused_by_database', r."column", r.came, r.expected, r.rule_mask, r.in_file,
         p_run
  from jsonb_to_recordset(p_refused)
    as r ("table" text, key text, "column" text, came text, expected text, rule_mask bigint, in_file jsonb)
  on conflict ("table", id) do update
  set "column" = excluded."column", came = excluded.came, expected = excluded.expected, rule_mask = excluded.rule_mask,
      in_file = excluded.in_file
  where (j."column", j.came, j.expected, j.rule_mask, j.in_file)
        is distinct from (excluded."column", excluded.came, excluded.expected, excluded.rule_mask, excluded.in_file);
$$;

do $$
declare
  f regprocedure;
begin
  for f in
    select p.oid from pg_proc p
    where p.pronamespace = 'public'::regnamespace
      and p.proname in ('etl_seed_value', 'etl_seed_id', 'etl_move_base', 'etl_base_run', 'etl_distrust_base', 'etl_source_shape',
                        'etl_fingerprint_sql', 'etl_rows', 'etl_rows_by_key', 'etl_known_sql', 'etl_find_changes_sql', 'etl_find_changes',
                        'etl_sample_known', 'etl_known_sum', 'etl_known', 'etl_dependents', 'etl_orphans_of', 'etl_months_of',
                        'etl_target_page', 'etl_rejects_page', 'etl_upsert', 'etl_write_rejects', 'etl_put_refused')
  loop
    execute format('revoke all on function %s from public, anon, authenticated', f);
    execute format('grant execute on function %s to etl, service_role', f);
  end loop;
end
$$;
