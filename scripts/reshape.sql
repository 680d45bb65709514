-- Brings each table to what pg_temp.wanted asks for. Columns come, change their null rule or go; a key of another kind
-- cannot be carried over.
do $$
declare
  item record;
begin
  for item in
    select w.relation, w.name, w.type as wanted, format_type(a.atttypid, a.atttypmod) as found
    from pg_temp.wanted w join pg_attribute a on a.attrelid = w.relation and a.attname = w.name and not a.attisdropped
    where format_type(a.atttypid, a.atttypmod) <> w.type
  loop
    raise exception 'column % of % is %, the contracts say %: drop the table, the next run fills it again',
      item.name, item.relation, item.found, item.wanted;
  end loop;
  for item in
    select a.attrelid::regclass as relation, a.attname, k.cleaned
    from (select relation, bool_or(cleaned) as cleaned from pg_temp.wanted group by relation) k
    join pg_attribute a on a.attrelid = k.relation and a.attnum > 0 and not a.attisdropped
    where not exists (select from pg_temp.wanted w where w.relation = k.relation and w.name = a.attname)
  loop
    -- What the contracts no longer name does not stay in a cleaned table; the history of an aggregate does.
    execute format('alter table %s %s', item.relation,
                   format(case when item.cleaned then 'drop column %I' else 'alter column %I drop not null' end, item.attname));
  end loop;
  for item in
    select w.relation, w.name, w.required, a.attnotnull from pg_temp.wanted w
    join pg_attribute a on a.attrelid = w.relation and a.attname = w.name
    where w.required <> a.attnotnull and not w.is_key
  loop
    begin
      execute format('alter table %s alter column %I %s not null', item.relation, item.name,
                     case when item.required then 'set' else 'drop' end);
    exception when not_null_violation then
      null;  -- rows from before the column came: the next run mends a cleaned table, a history keeps its gap
    end;
  end loop;
end
$$;
drop table pg_temp.wanted;
