-- Writing: the rows that differ, what was rejected, the aggregates, the commit. Columns come from the catalog, so another
-- column in the contracts needs no other function here.

-- An earlier version of a function may have other arguments; two of a name would leave REST without a choice.
do $$
declare
  f regprocedure;
begin
  for f in
    select p.oid from pg_proc p where p.pronamespace = 'public'::regnamespace and p.proname in (
      'etl_table', 'etl_shape', 'etl_target_page', 'etl_rejects_page', 'etl_upsert', 'etl_write',
      'etl_write_staged', 'etl_delete', 'etl_write_rejects', 'etl_delete_rejects', 'etl_put', 'etl_commit',
      'etl_put_refused', 'etl_restore')
  loop
    execute format('drop function %s', f);
  end loop;
end
$$;

-- What the rules and the database refused. A row per table, key and rule; `id` is its place in the order of a merge.
create table if not exists public.etl_reject_rows (
  "table" text not null,
  id text collate "C" not null,
  key text not null,
  rule text not null,
  "column" text,
  came text,
  expected text,
  first_run text not null,
  first_seen timestamptz not null default clock_timestamp(),
  primary key ("table", id)
);
comment on table public.etl_reject_rows is 'Behind the view etl_rejects.';

-- Whatever is here was still wrong in the last run that wrote cleaned tables: mended and vanished rows go with it. So a
-- quiet night writes nothing here, and the last run is that one.
create or replace view public.etl_rejects with (security_invoker = true) as
select j."table", j.key, j.rule, j."column", j.came, j.expected, j.first_run, j.first_seen,
       l.run_id as last_run, l.finished_at as last_seen
from public.etl_reject_rows j
left join lateral (
  select r.run_id, r.finished_at from public.etl_runs r
  where r.status = 'committed' and r.kind = 'run' and not r.historical
  order by r.finished_at desc limit 1
) l on true;
comment on view public.etl_rejects is 'Rows that are kept out of the cleaned tables: why, and since when. Values are masked.';

-- What a batch answered, so that one sent twice, because the answer was lost, is counted once. Emptied by the commit.
create table if not exists public.etl_batches (
  run_id text not null,
  batch text not null,
  answer jsonb,
  primary key (run_id, batch)
);
comment on table public.etl_batches is 'Answers of the batches of the run at work.';

alter table public.etl_reject_rows enable row level security;
alter table public.etl_batches enable row level security;
revoke all on public.etl_reject_rows, public.etl_rejects, public.etl_batches from public, anon, authenticated;
grant select, insert, update, delete on public.etl_reject_rows, public.etl_batches to etl, service_role;
grant select on public.etl_rejects to etl, service_role;
drop policy if exists etl_all on public.etl_reject_rows;
create policy etl_all on public.etl_reject_rows to etl using (true) with check (true);
drop policy if exists etl_all on public.etl_batches;
create policy etl_all on public.etl_batches to etl using (true) with check (true);

-- The table behind a name of the contracts: nothing else is ever written by name.
create or replace function public.etl_table(p_kind text, p_name text) returns regclass
language plpgsql stable set search_path = '' as
$$
declare
  found_table regclass;
begin
  select t.relation into found_table from public.etl_tables() t where t.kind = p_kind and t.name = p_name;
  if found_table is null then
    raise exception 'the contracts have no % table of that name', p_kind using errcode = 'ET004';
  end if;
  return found_table;
end
$$;

-- How one of our tables is written: its columns quoted and in order, its key, and the assignments of an upsert. `t` is the
-- table there, `s` a staging table, `r` rows from JSON.
create or replace function public.etl_shape(p_table regclass)
returns table (columns text, casts text, key text, key_name text, key_type text, assignments text, ours text, theirs text,
               our_key text, their_key text)
language sql stable set search_path = '' as
$$
  select string_agg(quote_ident(a.attname), ', ' order by a.attnum),
         -- Never to a length: an explicit cast cuts a text off where an assignment refuses it.
         string_agg(case when y.typcategory = 'S' then format('s.%I', a.attname)
                         else format('s.%I::%s', a.attname, format_type(a.atttypid, null)) end, ', ' order by a.attnum),
         string_agg(quote_ident(a.attname), ', ' order by a.attnum) filter (where k.is_key),
         string_agg(a.attname::text, ', ' order by a.attnum) filter (where k.is_key),
         string_agg(format_type(a.atttypid, a.atttypmod), ', ' order by a.attnum) filter (where k.is_key),
         string_agg(format('%1$I = excluded.%1$I', a.attname), ', ' order by a.attnum) filter (where not k.is_key),
         string_agg(format('t.%I', a.attname), ', ' order by a.attnum),
         string_agg(format('excluded.%I', a.attname), ', ' order by a.attnum),
         string_agg(format('t.%I', a.attname), ', ' order by a.attnum) filter (where k.is_key),
         string_agg(format('r.%I', a.attname), ', ' order by a.attnum) filter (where k.is_key)
  from pg_catalog.pg_attribute a
  join pg_catalog.pg_type y on y.oid = a.atttypid
  join pg_catalog.pg_index i on i.indrelid = a.attrelid and i.indisprimary
  cross join lateral (select a.attnum = any (i.indkey) as is_key) k
  where a.attrelid = p_table and a.attnum > 0 and not a.attisdropped
$$;

-- One page of (key, row_hash) of a cleaned table, in key order, after a key; two texts joined by commas.
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
    'select jsonb_build_object(''ids'', string_agg(x.id, '',''), ''hashes'', string_agg(x.row_hash, '',''), ''rows'', count(*))
     from (select t.%1$s::text as id, t.row_hash from %2$s t %3$s order by t.%1$s limit %4$s) x',
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
    select j.id, md5(concat_ws(E'\x1f', coalesce(j."column", E'\x1e'), coalesce(j.came, E'\x1e'), coalesce(j.expected, E'\x1e'))) as hash
    from public.etl_reject_rows j
    where j."table" = p_table and j.rule <> 'refused_by_database' and j.id > p_after
    order by j.id limit (public.etl_json(p_limit) #>> '{}')::integer
  ) x
$$;

-- Insert or update rows by their hash; a row that the database refuses costs itself only: the rows are cut in two until it
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
  statement := format(
    'with written as (
       insert into %1$s as t (%2$s) select %2$s from (%%s) s
       on conflict (%3$s) do update set %4$s where t.row_hash is distinct from excluded.row_hash
       returning (t.xmax = 0) as is_new)
     select count(*) filter (where is_new), count(*) filter (where not is_new) from written',
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

-- One batch of rows, over REST. Answers {inserted, updated, refused: [{key, code, constraint, column}]}.
create or replace function public.etl_write(p_run text, p_token text, p_batch text, p_table text, p_rows jsonb, p_limit jsonb)
returns jsonb language plpgsql set search_path = '' as
$$
declare
  rows_given constant jsonb := public.etl_json(p_rows);
  outcome jsonb;
begin
  perform public.etl_require_lease(p_run, p_token);
  insert into public.etl_batches (run_id, batch) values (p_run, p_batch) on conflict do nothing;
  if not found then
    select b.answer into outcome from public.etl_batches b where b.run_id = p_run and b.batch = p_batch;
    return outcome;
  end if;
  outcome := public.etl_upsert(p_table, rows_given, jsonb_array_length(rows_given), (public.etl_json(p_limit) #>> '{}')::bigint);
  update public.etl_batches b set answer = outcome where b.run_id = p_run and b.batch = p_batch;
  return outcome;
end
$$;

-- The rows that were copied into the temporary table etl_stage_<table>, over Postgres. Answers as etl_write.
create or replace function public.etl_write_staged(p_run text, p_token text, p_table text, p_count jsonb, p_limit jsonb)
returns jsonb language plpgsql set search_path = '' as
$$
begin
  perform public.etl_require_lease(p_run, p_token);
  return public.etl_upsert(p_table, null, (p_count #>> '{}')::bigint, (p_limit #>> '{}')::bigint);
end
$$;

-- One batch of keys that left the source. Answers {deleted}.
create or replace function public.etl_delete(p_run text, p_token text, p_batch text, p_table text, p_ids jsonb)
returns jsonb language plpgsql set search_path = '' as
$$
declare
  target constant regclass := public.etl_table('clean', p_table);
  shape record;
  gone bigint;
  outcome jsonb;
begin
  perform public.etl_require_lease(p_run, p_token);
  insert into public.etl_batches (run_id, batch) values (p_run, p_batch) on conflict do nothing;
  if not found then
    select b.answer into outcome from public.etl_batches b where b.run_id = p_run and b.batch = p_batch;
    return outcome;
  end if;
  select * into shape from public.etl_shape(target);
  execute format('delete from %s t where t.%s = any (array(select x::%s from jsonb_array_elements_text($1) x))',
                 target, shape.key, shape.key_type) using public.etl_json(p_ids);
  get diagnostics gone = row_count;
  outcome := jsonb_build_object('deleted', gone);
  update public.etl_batches b set answer = outcome where b.run_id = p_run and b.batch = p_batch;
  return outcome;
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
  insert into public.etl_reject_rows as j ("table", id, key, rule, "column", came, expected, first_run)
  select r."table", r.key || E'\x1f' || r.rule, r.key, r.rule, r."column", r.came, r.expected, p_run
  from jsonb_to_recordset(public.etl_json(p_rows))
    as r ("table" text, key text, rule text, "column" text, came text, expected text)
  on conflict ("table", id) do update
  set "column" = excluded."column", came = excluded.came, expected = excluded.expected
  where (j."column", j.came, j.expected) is distinct from (excluded."column", excluded.came, excluded.expected);
  get diagnostics changed = row_count;
  return to_jsonb(changed);
end
$$;

-- Rejects that were mended or are gone at the source.
create or replace function public.etl_delete_rejects(p_run text, p_token text, p_table text, p_ids jsonb)
returns jsonb language plpgsql set search_path = '' as
$$
declare
  gone bigint;
begin
  perform public.etl_require_lease(p_run, p_token);
  delete from public.etl_reject_rows j
  where j."table" = p_table and j.id = any (array(select x from jsonb_array_elements_text(public.etl_json(p_ids)) x));
  get diagnostics gone = row_count;
  return to_jsonb(gone);
end
$$;

-- Make an aggregate hold these rows; rows that are equal are not touched. p_whole: what is not among them goes.
create or replace function public.etl_put(p_table text, p_rows jsonb, p_whole boolean) returns bigint
language plpgsql set search_path = '' as
$$
declare
  target constant regclass := public.etl_table('aggregate', p_table);
  shape record;
  written bigint;
  gone bigint := 0;
begin
  select * into shape from public.etl_shape(target);
  if p_whole then
    execute format('delete from %1$s t where (%2$s) not in (select %3$s from jsonb_populate_recordset(null::%1$s, $1) r)',
                   target, shape.our_key, shape.their_key) using p_rows;
    get diagnostics gone = row_count;
  end if;
  execute format(
    'insert into %1$s as t (%2$s) select %2$s from jsonb_populate_recordset(null::%1$s, $1) r
     on conflict (%3$s) do update set %4$s where (%5$s) is distinct from (%6$s)',
    target, shape.columns, shape.key, shape.assignments, shape.ours, shape.theirs) using p_rows;
  get diagnostics written = row_count;
  return written + gone;
end
$$;

-- The commit, in one transaction. p_facts: manifest_path, manifest_sha256, counts, seconds, bytes, and refused, all rows
-- of this run that the database did not take ([{table, key, column, came, expected}]). p_aggregates: name → {rows, whole}.
-- Sent twice it answers the same.
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
    perform public.etl_put_refused(p_run, facts -> 'refused');
  end if;
  delete from public.etl_batches;
  update public.etl_runs r
  set status = 'committed', stage = 'committed', finished_at = clock_timestamp(), heartbeat = clock_timestamp(), error = null,
      manifest_path = facts ->> 'manifest_path', manifest_sha256 = facts ->> 'manifest_sha256',
      counts = r.counts || coalesce(facts -> 'counts', '{}'),
      seconds = r.seconds || coalesce(facts -> 'seconds', '{}'),
      bytes = r.bytes || coalesce(facts -> 'bytes', '{}'),
      current_at = case when not r.historical then clock_timestamp() end
  where r.run_id = p_run
  returning * into mine;
  return public.etl_run_json(mine);
end
$$;

-- Which rows the database itself refused in this run; what it refused before and takes now is no reject any more.
create or replace function public.etl_put_refused(p_run text, p_refused jsonb) returns void
language sql set search_path = '' as
$$
  delete from public.etl_reject_rows j
  where j.rule = 'refused_by_database'
    and (j."table", j.key) not in (select r."table", r.key from jsonb_to_recordset(p_refused) as r ("table" text, key text));
  insert into public.etl_reject_rows as j ("table", id, key, rule, "column", came, expected, first_run)
  select r."table", r.key || E'\x1frefused_by_database', r.key, 'refused_by_database', r."column", r.came, r.expected, p_run
  from jsonb_to_recordset(p_refused) as r ("table" text, key text, "column" text, came text, expected text)
  on conflict ("table", id) do update
  set "column" = excluded."column", came = excluded.came, expected = excluded.expected
  where (j."column", j.came, j.expected) is distinct from (excluded."column", excluded.came, excluded.expected);
$$;

-- Back to an earlier committed run: its aggregates, and the mark that says which run is current. p_aggregates as in the
-- commit. Statistics of a later as_of go: whoever asks for the newest gets the restored run's.
create or replace function public.etl_restore(p_run text, p_token text, p_target text, p_aggregates jsonb) returns jsonb
language plpgsql set search_path = '' as
$$
declare
  mine public.etl_runs;
  target public.etl_runs;
  item record;
begin
  select * into mine from public.etl_runs r where r.run_id = p_run and r.token = p_token::uuid and r.status = 'committed';
  if found then
    return public.etl_run_json(mine);
  end if;
  mine := public.etl_require_lease(p_run, p_token);
  select * into target from public.etl_runs r
  where r.run_id = p_target and r.status = 'committed' and r.kind = 'run' and not r.historical
  for update;
  if not found then
    raise exception 'run % is not a committed run that was ever current', p_target using errcode = 'ET004';
  end if;
  for item in select a.key as name, a.value as content from jsonb_each(public.etl_json(p_aggregates)) a loop
    perform public.etl_put(item.name, item.content -> 'rows', (item.content ->> 'whole')::boolean);
  end loop;
  delete from public.user_statistics s where s.as_of > target.as_of;
  update public.etl_runs r set current_at = clock_timestamp() where r.run_id = target.run_id;
  update public.etl_runs r
  set status = 'committed', stage = 'restored', historical = true, as_of = target.as_of, finished_at = clock_timestamp(),
      manifest_path = target.manifest_path, manifest_sha256 = target.manifest_sha256, restored_run = target.run_id
  where r.run_id = mine.run_id
  returning * into mine;
  return public.etl_run_json(mine);
end
$$;

do $$
declare
  f regprocedure;
begin
  for f in
    select p.oid from pg_proc p
    where p.pronamespace = 'public'::regnamespace
      and p.proname in ('etl_table', 'etl_shape', 'etl_target_page', 'etl_rejects_page', 'etl_upsert', 'etl_write', 'etl_write_staged', 'etl_delete', 'etl_write_rejects',
                        'etl_delete_rejects', 'etl_put', 'etl_commit', 'etl_put_refused', 'etl_restore')
  loop
    execute format('revoke all on function %s from public, anon, authenticated', f);
    execute format('grant execute on function %s to etl, service_role', f);
  end loop;
end
$$;
