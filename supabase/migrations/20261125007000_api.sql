-- What signed-in people see through the reports site and its API: row-level security decides, by the claim
-- app_metadata.etl_role of their own token. Analysts: aggregates, runs, files. Operators: the cleaned rows too. Customers of
-- the product hold the same database role, `authenticated`; without the claim they get no row.

-- The flow run of Prefect's that a run belongs to, so that its page can be found.
alter table public.etl_runs add column if not exists flow_run_id text;
comment on column public.etl_runs.flow_run_id is 'Id of the flow run in Prefect; null for a run that was started without a server.';
create index if not exists etl_runs_flow_run on public.etl_runs (flow_run_id) where flow_run_id is not null;

create or replace function public.etl_note_flow_run(p_run text, p_token text, p_flow_run text) returns jsonb
language plpgsql set search_path = '' as
$$
begin
  update public.etl_runs r set flow_run_id = p_flow_run where r.run_id = p_run and r.token = p_token::uuid;
  return to_jsonb(found);
end
$$;
revoke all on function public.etl_note_flow_run(text, text, text) from public, anon, authenticated;
grant execute on function public.etl_note_flow_run(text, text, text) to etl, service_role;

-- Opens what exists now to its readers. Called again after tables or columns were added; the contracts decide those.
-- Columns are granted one by one: never the token of a run, nor what the pipeline keeps beside a cleaned row for itself.
create or replace function public.etl_open_to_readers() returns jsonb
language plpgsql set search_path = '' as
$$
declare
  item record;
  columns text;
begin
  for item in
    select t.kind, t.relation, 'etl_operators' as policy, '{operator}' as roles
    from public.etl_tables() t where t.kind in ('clean', 'aggregate')
    union all select 'runs', 'public.etl_runs'::regclass, 'etl_readers', '{analyst,operator}'
  loop
    select string_agg(quote_ident(a.attname), ', ' order by a.attnum) into columns
    from pg_catalog.pg_attribute a
    where a.attrelid = item.relation and a.attnum > 0 and not a.attisdropped
      and not (item.kind = 'runs' and a.attname = 'token')
      and not (item.kind = 'clean' and a.attname in ('row_hash', 'fingerprint', 'rule_mask'));
    execute format('grant select (%s) on %s to authenticated', columns, item.relation);
    execute format('drop policy if exists %I on %s', item.policy, item.relation);
    execute format(
      $policy$create policy %I on %s for select to authenticated using (
        (select nullif(current_setting('request.jwt.claims', true), '')::jsonb -> 'app_metadata' ->> 'etl_role') = any (%L))$policy$,
      item.policy, item.relation, item.roles);
  end loop;
  return 'true';
end
$$;
revoke all on function public.etl_open_to_readers() from public, anon, authenticated;
select public.etl_open_to_readers();

-- The ledger as it is shown: without the token.
do $$
declare
  columns text;
begin
  select string_agg('r.' || quote_ident(a.attname), ', ' order by a.attnum) into columns
  from pg_attribute a
  where a.attrelid = 'public.etl_runs'::regclass and a.attnum > 0 and not a.attisdropped and a.attname <> 'token';
  drop view if exists public.nightly_runs;
  execute format('create view public.nightly_runs with (security_invoker = true) as select %s from public.etl_runs r', columns);
  revoke all on public.nightly_runs from public, anon, authenticated;
  grant select on public.nightly_runs to authenticated, service_role;
end
$$;
comment on view public.nightly_runs is 'The runs of the nightly pipeline, for analysts and operators.';

-- The cleaned users, for operators: a page of them, how many match, and what they are. Plain functions under the caller's
-- own rights; a search is a text that is looked for, never a pattern or a piece of a query.
-- p_query: table, status, search, limit, offset, id.
create or replace function public.nightly_users(p_query jsonb) returns jsonb
language plpgsql stable set search_path = '' as
$$
declare
  query constant jsonb := case jsonb_typeof(p_query) when 'string' then (p_query #>> '{}')::jsonb else p_query end;
  relation regclass := public.nightly_relation(query);
  matches text := format('(%s)', (
    select coalesce(string_agg(format('strpos(lower(u.%I::text), $2) > 0', a.attname), ' or '), 'false')
    from pg_catalog.pg_attribute a
    where a.attrelid = relation and a.attname in ('id', 'name', 'email') and not a.attisdropped));
  answer jsonb;
begin
  execute format(
    $q$with found as (
         select %1$s, count(*) over () as nightly_total from %2$s u
         where ($1 is null or u.status = $1) and ($2 is null or %3$s) and ($3 is null or u.id::text = $3)
         order by u.created_at desc, u.id limit $4 offset $5)
       select jsonb_build_object(
         'total', coalesce((select nightly_total from found limit 1),
                           case when $5 = 0 then 0 else (
                             select count(*) from %2$s u where ($1 is null or u.status = $1) and ($2 is null or %3$s)) end),
         'rows', coalesce((select jsonb_agg(to_jsonb(f) - 'nightly_total' order by f.created_at desc, f.id) from found f), '[]'))$q$,
    public.nightly_columns(relation, 'u'), relation, matches)
  into answer
  using query ->> 'status', lower(nullif(query ->> 'search', '')), query ->> 'id',
        least((query ->> 'limit')::integer, 500), (query ->> 'offset')::integer;
  return answer;
end
$$;

-- The cleaned posts of one user, newest first. p_query: table, user_id, limit,
-- before_created_at and before_id of the last one shown.
create or replace function public.nightly_posts(p_query jsonb) returns jsonb
language plpgsql stable set search_path = '' as
$$
declare
  query constant jsonb := case jsonb_typeof(p_query) when 'string' then (p_query #>> '{}')::jsonb else p_query end;
  relation regclass := public.nightly_relation(query);
  keys text := (select format_type(a.atttypid, a.atttypmod) from pg_catalog.pg_attribute a
                where a.attrelid = relation and a.attname = 'user_id');
  ids text := (select format_type(a.atttypid, a.atttypmod) from pg_catalog.pg_attribute a
               where a.attrelid = relation and a.attname = 'id');
  answer jsonb;
begin
  execute format(
    $q$select coalesce(jsonb_agg(to_jsonb(f) order by f.created_at desc, f.id desc), '[]') from (
         select %1$s from %2$s p
         where p.user_id = $1::%3$s and ($2 is null or (p.created_at, p.id) < ($2::timestamptz, $3::%4$s))
         order by p.created_at desc, p.id desc limit $4) f$q$,
    public.nightly_columns(relation, 'p'), relation, keys, ids)
  into answer
  using query ->> 'user_id', query ->> 'before_created_at', query ->> 'before_id', least((query ->> 'limit')::integer, 501);
  return answer;
end
$$;

-- Counts of the cleaned users. p_query: table.
create or replace function public.nightly_user_counts(p_query jsonb) returns jsonb
language plpgsql stable set search_path = '' as
$$
declare
  query constant jsonb := case jsonb_typeof(p_query) when 'string' then (p_query #>> '{}')::jsonb else p_query end;
  relation regclass := public.nightly_relation(query);
  has_email boolean := exists (
    select from pg_catalog.pg_attribute a where a.attrelid = relation and a.attname = 'email' and not a.attisdropped);
  answer jsonb;
begin
  execute format(
    $q$select jsonb_build_object(
         'total', count(*), 'duplicates', count(u.duplicate_of), 'with_email', %1$s,
         'first_created_at', min(u.created_at), 'last_created_at', max(u.created_at),
         'by_status', (select coalesce(jsonb_object_agg(s.status, s.users), '{}') from (
            select v.status, count(*) as users from %2$s v group by v.status) s))
       from %2$s u$q$, case when has_email then 'count(u.email)' else 'null' end, relation)
  into answer;
  return answer;
end
$$;

-- A cleaned table by its name, which the contracts declare. The caller's own rights decide what is seen of it.
create or replace function public.nightly_relation(p_query jsonb) returns regclass
language sql stable set search_path = '' as
$$ select to_regclass(format('public.%I', p_query ->> 'table')) $$;

-- The columns of a table that the caller may read, as a select list.
create or replace function public.nightly_columns(p_relation regclass, p_alias text) returns text
language sql stable set search_path = '' as
$$
  select string_agg(format('%I.%I', p_alias, a.attname), ', ' order by a.attnum) from pg_catalog.pg_attribute a
  where a.attrelid = p_relation and a.attnum > 0 and not a.attisdropped
    and has_column_privilege(p_relation, a.attnum, 'select')
$$;

do $$
declare
  f regprocedure;
begin
  for f in
    select p.oid from pg_proc p
    where p.pronamespace = 'public'::regnamespace
      and p.proname in ('nightly_users', 'nightly_posts', 'nightly_user_counts', 'nightly_relation', 'nightly_columns')
  loop
    execute format('revoke all on function %s from public, anon', f);
    execute format('grant execute on function %s to authenticated, service_role', f);
  end loop;
end
$$;

-- Files: analysts and operators read the bucket, but of uploads/ only their own folder; both hand files in there; operators
-- delete exports. A plain PostgreSQL has no Storage: then there is nothing to do here.
do $$
begin
  if to_regclass('storage.objects') is null then
    return;
  end if;
  drop policy if exists "analysts read reports" on storage.objects;
  create policy "analysts read reports" on storage.objects for select to authenticated
    using (
      bucket_id = 'reports'
      and (select nullif(current_setting('request.jwt.claims', true), '')::jsonb -> 'app_metadata' ->> 'etl_role')
          in ('analyst', 'operator')
      and (name not like 'uploads/%'
           or split_part(name, '/', 2) = (select nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub'))
    );
  drop policy if exists "analysts upload to reports" on storage.objects;
  create policy "analysts upload to reports" on storage.objects for insert to authenticated
    with check (
      bucket_id = 'reports'
      and (select nullif(current_setting('request.jwt.claims', true), '')::jsonb -> 'app_metadata' ->> 'etl_role')
          in ('analyst', 'operator')
      and name like 'uploads/%'
      and split_part(name, '/', 2) = (select nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub')
    );
  drop policy if exists "operators delete exports of reports" on storage.objects;
  create policy "operators delete exports of reports" on storage.objects for delete to authenticated
    using (
      bucket_id = 'reports'
      and (select nullif(current_setting('request.jwt.claims', true), '')::jsonb -> 'app_metadata' ->> 'etl_role') = 'operator'
      and name like 'exports/%'
    );
exception when insufficient_privilege then
  raise warning 'this role may not make policies on storage.objects: uploads and deletions need the dashboard''s policies';
end
$$;

notify pgrst, 'reload schema';
