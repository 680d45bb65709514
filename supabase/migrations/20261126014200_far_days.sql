-- A day that no timestamp holds, in a column of type date that is declared as an instant, is a value after 9999: its row is rejected.
-- It ended the run.
set local lock_timeout = '5s';

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
    from (
      -- Days beyond what a timestamp holds, infinity aside, become the last one that it does: no error, and after 9999 as they are.
      select g.place, g.name, g.kind, g.type, g.is_key,
             case when g.kind = 'timestamptz' and g.type = 'date' then
               format('(case when %1$s < ''infinity'' then least(%1$s, ''294276-12-31'') else %1$s end)', g.cell)
             else g.cell end as cell
      from columns g) c
  )
  select format('%I.%I', g.x ->> 'schema', g.x ->> 'table'),
         (select w.cell from written w where w.is_key),
         (select case w.kind when 'uuid' then 'uuid' when 'bigint' then 'bigint' else 'text' end from written w where w.is_key),
         (select format('hash_record_extended(row(%s), (select public.etl_seed_value()))', string_agg(w.hashed, ', ' order by w.place))
          from written w),
         (select string_agg(format('%s as %I', w.shown, w.name), ', ' order by w.place) from written w)
  from given g
$$;
