-- The pipeline without the service key: requests whose token says `role: etl`, and no more rights than a run needs.
--
-- Off until chosen: a token with that role exists only once the owner mints one with the project's signing key, or chooses
-- the hook below in the dashboard and marks a user. docs/keys.md has the steps.

-- PostgREST, Storage and Realtime become the role that a token names; they log in as `authenticator`.
do $$
begin
  grant etl to authenticator;
exception when insufficient_privilege or undefined_object then
  raise notice 'etl was not granted to authenticator: tokens with the role etl are refused';
end
$$;

-- BYPASSRLS would open every bucket and every file to the role, as Storage decides by row-level security alone. A policy on
-- each source shows the rows instead.
do $$
begin
  alter role etl nobypassrls;
exception when insufficient_privilege then
  raise notice 'etl keeps what it has of BYPASSRLS: it is not this role''s to take';
end
$$;

-- The sources: what etl may read and is not ours.
do $$
declare
  source record;
begin
  for source in
    select distinct c.oid::regclass as relation
    from pg_class c cross join lateral aclexplode(c.relacl) a
    where c.relkind in ('r', 'p') and a.grantee = 'etl'::regrole and a.privilege_type = 'SELECT'
      and c.relnamespace not in ('pg_catalog'::regnamespace, coalesce(to_regnamespace('storage'), 'pg_catalog'::regnamespace))
      and not exists (select from pg_policy p where p.polrelid = c.oid and p.polname in ('etl_all', 'etl_reads'))
  loop
    begin
      execute format('create policy etl_reads on %s for select to etl using (true)', source.relation);
    exception when insufficient_privilege then
      raise warning 'the owner of % has to let etl see its rows: create policy etl_reads on % for select to etl using (true)',
        source.relation, source.relation;
    end;
  end loop;
end
$$;

-- The bucket of the reports and its files; no other bucket, and no new one.
do $$
begin
  if to_regclass('storage.objects') is null then
    return;
  end if;
  grant usage on schema storage to etl;
  grant select on storage.buckets to etl;
  grant select, insert, update, delete on storage.objects to etl;
  drop policy if exists "etl sees its bucket" on storage.buckets;
  create policy "etl sees its bucket" on storage.buckets for select to etl using (id = 'reports');
  drop policy if exists "etl keeps the reports" on storage.objects;
  create policy "etl keeps the reports" on storage.objects for all to etl
    using (bucket_id = 'reports') with check (bucket_id = 'reports');
exception when insufficient_privilege then
  raise notice 'this role may not give rights in storage: a token with the role etl gets no files';
end
$$;

-- The custom access token hook: a user whose app_metadata says `etl_role: pipeline`, which only the service can set, gets
-- tokens with the role etl. Everybody else's token stays as it is. It reads no table.
create or replace function public.etl_access_token(event jsonb) returns jsonb
language sql immutable set search_path = '' as
$$
  select case when event #>> '{claims,app_metadata,etl_role}' = 'pipeline'
    then jsonb_set(event, '{claims,role}', '"etl"') else event end
$$;
revoke all on function public.etl_access_token(jsonb) from public, anon, authenticated, service_role;
do $$
begin
  grant execute on function public.etl_access_token(jsonb) to supabase_auth_admin;
exception when undefined_object then
  raise notice 'no Auth here: nobody calls the hook';
end
$$;

-- Who the caller is, and what it may do that a run does not need. p_over: `rest` asks about the role of the request,
-- `postgres` about the login. p_sources: [{"schema", "table"}]. Reads the catalog only.
create or replace function public.etl_identity(p_over text, p_sources jsonb) returns jsonb
language sql stable set search_path = '' as
$$
  with me as (
    select r.* from pg_catalog.pg_roles r
    where r.rolname = case p_over when 'postgres' then session_user else current_user end
  ), needed as (
    select t.relation::oid as oid from public.etl_tables() t
    union select c.oid from pg_catalog.pg_class c
      where c.relnamespace = 'public'::regnamespace and starts_with(c.relname, 'etl_')
    union select to_regclass(format('%I.%I', s ->> 'schema', s ->> 'table'))::oid
      from jsonb_array_elements(public.etl_json(p_sources)) s
  ), tables as (
    select c.oid, format('%I.%I', n.nspname, c.relname) as name,
           n.nspname = 'storage' and c.relname in ('objects', 'buckets') as of_storage,
           c.oid in (select oid from needed) as needed
    from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where c.relkind in ('r', 'p') and n.nspname not in ('pg_catalog', 'information_schema') and n.nspname !~ '^pg_t'
  ), sources as (
    select to_regclass(format('%I.%I', s ->> 'schema', s ->> 'table')) as relation
    from jsonb_array_elements(public.etl_json(p_sources)) s
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
      select count(*) from sources s where s.relation is not null
        and pg_catalog.has_table_privilege(me.oid, s.relation, 'insert, update, delete')),
    'all_buckets', (me.rolsuper or me.rolbypassrls) and exists (
      select from tables t where t.of_storage and pg_catalog.has_table_privilege(me.oid, t.oid, 'select')))
  from me
$$;

-- What `watch` asks every few seconds, without a look at any row. Per source: how many rows were ever inserted, updated or
-- deleted by PostgreSQL's own counters (of the tables behind a view, of all partitions), a marker that changes with
-- TRUNCATE or another shape, and whether Realtime publishes it. Beside them what the counters cannot count across: when they
-- were reset, when the server started; and who runs, and what was committed last.
create or replace function public.etl_changes(p_sources jsonb) returns jsonb
language sql volatile set search_path = '' as
$$
  with sources as (
    select s ->> 'name' as name, s ->> 'schema' as schema, s ->> 'table' as relname,
           to_regclass(format('%I.%I', s ->> 'schema', s ->> 'table')) as relation
    from jsonb_array_elements(public.etl_json(p_sources)) s
  ), counted as (
    select s.name, bool_or(t.relid is not null) and not bool_or(b.kind = 'f') as counted,
           coalesce(sum(pg_catalog.pg_stat_get_tuples_inserted(t.relid) + pg_catalog.pg_stat_get_tuples_updated(t.relid)
             + pg_catalog.pg_stat_get_tuples_deleted(t.relid)), 0) as changes,
           md5(string_agg(concat_ws(':', t.relid::oid, pg_catalog.pg_relation_filenode(t.relid), c.relnatts), ','
             order by t.relid::oid)) as marker
    from sources s
    left join lateral public.etl_relations_behind(s.relation) b on true
    left join lateral (
      select b.relation::regclass as relid where b.kind <> 'p' and b.kind <> 'v' and b.kind <> 'f'
      union select p.relid from pg_catalog.pg_partition_tree(b.relation) p where p.isleaf
    ) t on true
    left join pg_catalog.pg_class c on c.oid = t.relid
    group by s.name
  )
  select jsonb_build_object(
    'clock', clock_timestamp(),
    'epoch', concat_ws(' ', pg_catalog.pg_postmaster_start_time(),
      (select d.stats_reset from pg_catalog.pg_stat_database d where d.datname = current_database())),
    'sources', (
      select jsonb_object_agg(s.name, jsonb_build_object(
        'exists', s.relation is not null, 'counted', k.counted, 'changes', k.changes, 'marker', k.marker,
        'published', exists (
          select from pg_catalog.pg_publication_tables p
          where p.pubname = 'supabase_realtime' and p.schemaname = s.schema and p.tablename = s.relname)))
      from sources s join counted k on k.name = s.name),
    'realtime', exists (select from pg_catalog.pg_publication p where p.pubname = 'supabase_realtime'),
    'running', (
      select r.run_id from public.etl_runs r
      where r.status in ('running', 'loading') and r.heartbeat > clock_timestamp() - make_interval(secs => r.lease_seconds)),
    'committed', (
      select public.etl_run_json(r) - 'counts' from public.etl_runs r
      where r.status = 'committed' and not r.historical and r.kind = 'run' order by r.started_at desc limit 1))
$$;

do $$
declare
  f regprocedure;
begin
  for f in
    select p.oid from pg_proc p
    where p.pronamespace = 'public'::regnamespace and p.proname in ('etl_identity', 'etl_changes')
  loop
    execute format('revoke all on function %s from public, anon, authenticated', f);
    execute format('grant execute on function %s to etl, service_role', f);
  end loop;
end
$$;

notify pgrst, 'reload schema';
