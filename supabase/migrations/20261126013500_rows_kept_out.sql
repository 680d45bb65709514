-- A row that a trigger keeps out without an error (it returns null) is refused like any other: it is in etl_rejects, counts as
-- refused, and is tried every night. It was counted as unchanged, and no incremental night could prove what is stored.
-- Looked for only where fewer rows were written than were sent.
set local lock_timeout = '5s';

create or replace function public.etl_upsert(p_table text, p_rows jsonb, p_count bigint, p_limit bigint) returns jsonb
language plpgsql set search_path = '' set work_mem = '64MB' set enable_seqscan = off set jit = off as
$$
declare
  target regclass := public.etl_table('clean', p_table);
  stage constant text := format('pg_temp.%I', 'etl_stage_' || p_table);
  shape record;
  statement text;
  left_out text;
  source text;
  todo bigint[] := array[1, p_count];
  low bigint;
  high bigint;
  cut boolean := false;
  got_inserted bigint;
  got_updated bigint;
  got bigint;
  part text;
  part_rows jsonb;
  kept_out jsonb;
  inserted bigint := 0;
  updated bigint := 0;
  refused jsonb := '[]';
  code text;
  constraint_of text;
  column_of text;
  key_of text;
begin
  select * into shape from public.etl_shape(target);
  -- Rows are written where anything of ours differs, and count as updated where the cleaned row itself does. Staged rows are
  -- read where they are, twice if need be: a copy of a million would go to the server's disk, and so would a hash of as many
  -- stored rows. Each is looked up by its key, whatever the statistics of a table that was empty say.
  statement := format(
    'with given as %5$s (%%s),
     same as (
       select count(*) as n from given g
       cross join lateral (
         select from %1$s t
         where t.%3$s = g.%3$s and t.row_hash = g.row_hash and (t.fingerprint, t.rule_mask) is distinct from (g.fingerprint, g.rule_mask)
         limit 1) x),
     written as (
       insert into %1$s as t (%2$s) select %2$s from given s
       on conflict (%3$s) do update set %4$s
       where (t.row_hash, t.fingerprint, t.rule_mask) is distinct from (excluded.row_hash, excluded.fingerprint, excluded.rule_mask)
       returning (t.xmax = 0) as is_new)
     select count(*) filter (where w.is_new),
            case when bool_and(w.is_new) is not false then 0  -- then `same` is not run
                 else greatest(0, count(*) filter (where not w.is_new) - (select n from same)) end,
            count(*)
     from written w',
    target, shape.columns, shape.key, shape.assignments,
    case when p_rows is null then 'not materialized' else 'materialized' end);
  -- The rows that are not stored although no error said so: at most so many as were not written, or than matter. Each is
  -- looked up by its key, as above. 09000: triggered action exception.
  left_out := format(
    'with given as %3$s (%%s)
     select coalesce(jsonb_agg(jsonb_build_object(''key'', x.key, ''code'', ''09000'', ''constraint'', null, ''column'', null)), ''[]'')
     from (
       select g.%2$s::text as key from given g
       left join lateral (select t.row_hash, t.fingerprint, t.rule_mask from %1$s t where t.%2$s = g.%2$s limit 1) k on true
       where (k.row_hash, k.fingerprint, k.rule_mask) is distinct from (g.row_hash, g.fingerprint, g.rule_mask)
       limit %%s) x',
    target, shape.key, case when p_rows is null then 'not materialized' else 'materialized' end);
  source := case when p_rows is null
    then format('select %s from %s s %%s', shape.casts, stage)
    else format('select r.* from jsonb_populate_recordset(null::%s, $1) r', target) end;
  set constraints all immediate;  -- a deferred constraint is checked here, where its row is still known
  while cardinality(todo) > 0 loop
    low := todo[1];
    high := todo[2];
    todo := todo[3:];
    continue when low > high;
    begin
      part := source;
      part_rows := p_rows;
      if p_rows is null then
        part := format(source, case when cut then format('where s._n between %s and %s', low, high) else '' end);
      elsif cut then
        part_rows := jsonb_path_query_array(p_rows, format('$[%s to %s]', low - 1, high - 1)::jsonpath);
      end if;
      execute format(statement, part) into got_inserted, got_updated, got using part_rows;
      if got <= high - low then  -- the others are stored already, or a trigger keeps them out
        execute format(left_out, part, least(high - low + 1 - got, p_limit + 1)) into kept_out using part_rows;
        refused := refused || kept_out;
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
      end if;
    end;
    if jsonb_array_length(refused) > p_limit then
      raise exception 'more rows of % are refused than are tolerated, the last one with SQLSTATE %', p_table, refused -> -1 ->> 'code'
        using errcode = 'ET003';
    end if;
  end loop;
  return jsonb_build_object('inserted', inserted, 'updated', updated, 'refused', refused);
end
$$;
