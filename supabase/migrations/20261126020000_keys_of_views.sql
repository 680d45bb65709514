-- A partitioned table may be a source though the key of its contract is unique in no index by itself: (id, created_at) is the primary
-- key there. And the unique index of a table that others inherit from says nothing of their rows. Both are looked through, as views are:
-- in one pass over the rows. The planner read a view in the order of an index of the table behind it, a page of that table for each row,
-- half a minute for 2,000,000 rows, where PostgREST allows a call eight seconds.

set local lock_timeout = '5s';

create or replace function public.etl_key_state(p_relation oid, p_key text)
returns jsonb
language plpgsql stable security invoker set search_path = '' set work_mem = '64MB' set jit = off
as $$
declare
  v_looked boolean;
  v_unique boolean;
  v_not_null boolean;
begin
  select a.attnotnull,
         exists (
           select 1 from pg_catalog.pg_index i
           where i.indrelid = c.oid and i.indisunique and i.indisvalid and i.indimmediate
             and i.indpred is null and i.indexprs is null and i.indnkeyatts = 1 and i.indkey[0] = a.attnum),
         c.relkind in ('v', 'm', 'f', 'p')
    into v_not_null, v_unique, v_looked
  from pg_catalog.pg_class c join pg_catalog.pg_attribute a on a.attrelid = c.oid
  where c.oid = p_relation and a.attname = p_key and not a.attisdropped;
  v_looked := v_looked and not (v_unique and v_not_null)
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

-- It has backslashes in texts, and a database may say standard_conforming_strings = off.
alter function public.etl_row_filters(oid) set standard_conforming_strings = on;

create or replace function public.etl_release() returns text
language sql immutable set search_path = '' as $$ select '20261126020000' $$;
