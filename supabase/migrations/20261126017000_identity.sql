-- What an identity may do beyond what a run needs, also where it may not use the schema of a source: to_regclass raised an error
-- then, and each run over Postgres with a source in a schema of its own failed at the question.

set local lock_timeout = '5s';

-- Who the caller is, and what it may do that a run does not need. p_over: `rest` asks about the role of the request,
-- `postgres` about the login. p_sources: [{"schema", "table"}]. Reads the catalog only.
create or replace function public.etl_identity(p_over text, p_sources jsonb) returns jsonb
language sql stable set search_path = '' as
$$
  with me as (
    select r.* from pg_catalog.pg_roles r
    where r.rolname = case p_over when 'postgres' then session_user else current_user end
  ), sources as (
    select c.oid as relation from jsonb_array_elements(public.etl_json(p_sources)) s
    join pg_catalog.pg_namespace n on n.nspname = s ->> 'schema'
    join pg_catalog.pg_class c on c.relnamespace = n.oid and c.relname = s ->> 'table'
  ), needed as (
    select t.relation::oid as oid from public.etl_tables() t
    union select c.oid from pg_catalog.pg_class c
      where c.relnamespace = 'public'::regnamespace and starts_with(c.relname, 'etl_')
    union select s.relation from sources s
  ), tables as (
    select c.oid, format('%I.%I', n.nspname, c.relname) as name,
           n.nspname = 'storage' and c.relname in ('objects', 'buckets') as of_storage,
           c.oid in (select oid from needed) as needed
    from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where c.relkind in ('r', 'p') and n.nspname not in ('pg_catalog', 'information_schema') and n.nspname !~ '^pg_t'
  )
  select jsonb_build_object(
    'role', me.rolname,
    'acts_as', current_user,
    'superuser', me.rolsuper,
    'bypasses_rls', me.rolsuper or me.rolbypassrls,
    'attributes', to_jsonb(array_remove(array[
      case when me.rolcreaterole then 'makes roles' end, case when me.rolcreatedb then 'makes databases' end,
      case when me.rolreplication then 'replicates' end], null)),
    'member_of', (
      select coalesce(jsonb_agg(distinct r.rolname), '[]') from pg_catalog.pg_auth_members m
      join pg_catalog.pg_roles r on r.oid = m.roleid where m.member = me.oid and r.rolname <> 'etl'),
    'reads', (
      select count(*) from tables t where not t.needed and not t.of_storage
        and pg_catalog.has_table_privilege(me.oid, t.oid, 'select')),
    'writes', (
      select count(*) from tables t where not t.needed and not t.of_storage
        and pg_catalog.has_table_privilege(me.oid, t.oid, 'insert, update, delete')),
    'writes_sources', (
      select count(*) from sources s
        where pg_catalog.has_table_privilege(me.oid, s.relation, 'insert, update, delete')),
    'all_buckets', (me.rolsuper or me.rolbypassrls) and exists (
      select from tables t where t.of_storage and pg_catalog.has_table_privilege(me.oid, t.oid, 'select')))
  from me
$$;

create or replace function public.etl_release() returns text
language sql immutable set search_path = '' as $$ select '20261126017000' $$;
