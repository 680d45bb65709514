-- The lease, second version: a run replaces its own earlier attempt at once, a scheduled run can announce that it waits,
-- a resume can name its run, and only an instant that somebody asked for makes a run historical.

set local lock_timeout = '5s';

alter table public.etl_runs add column if not exists started_by text;
comment on column public.etl_runs.started_by is 'What started the run, as it calls itself: the id of a Prefect flow run. A restart names its run by it.';

-- Who waits for the lease. A backfill starts its next day only when nobody does.
create table if not exists public.etl_waiting (
  run_id text primary key,
  seen_at timestamptz not null default clock_timestamp()
);
comment on table public.etl_waiting is 'Runs that wait for the lease, and when each asked last; a row that is not renewed for 15 seconds counts for nothing.';
alter table public.etl_waiting enable row level security;
revoke all on public.etl_waiting from public, anon, authenticated;
grant select, insert, update, delete on public.etl_waiting to etl, service_role;
drop policy if exists etl_all on public.etl_waiting;
create policy etl_all on public.etl_waiting to etl using (true) with check (true);

drop function if exists public.etl_resumable(integer);
drop function if exists public.etl_as_of(jsonb, public.etl_runs);

-- The run that a new one may resume. With `resume_run` (a run's id, or the `started_by` of one) that run, failed or
-- committed; else the last run, when it failed. In both cases when it started less than `resume_within` seconds ago.
create or replace function public.etl_resumable(p_facts jsonb) returns public.etl_runs
language sql stable set search_path = '' as
$$
  select r.* from public.etl_runs r
  where r.kind = 'run' and r.as_of is not null
    and r.started_at > clock_timestamp() - make_interval(secs => (p_facts ->> 'resume_within')::integer)
    and case when p_facts ->> 'resume_run' is not null
      then (r.run_id = p_facts ->> 'resume_run' or r.started_by = p_facts ->> 'resume_run') and r.status in ('failed', 'committed')
      else r.status = 'failed' and not r.historical
        and r.run_id = (select l.run_id from public.etl_runs l where l.kind = 'run' order by l.started_at desc limit 1)
    end
  order by r.started_at desc limit 1
$$;

-- What a new run is as of. A run that resumes another has that one's as_of and mode, and over REST, where the reading goes
-- on, its `began`. `resume` without anything to resume is `midnight`.
create or replace function public.etl_as_of(p_facts jsonb, p_dead public.etl_runs)
returns table (as_of timestamptz, as_of_mode text, resumed_from text, began timestamptz)
language sql stable set search_path = '' as
$$
  select
    case when dead.found then p_dead.as_of
         when p_facts ->> 'as_of_mode' = 'now' then null
         else coalesce((p_facts ->> 'as_of')::timestamptz, date_trunc('day', clock_timestamp(), 'UTC')) end,
    case when dead.found then p_dead.as_of_mode
         when p_facts ->> 'as_of_mode' = 'resume' then 'midnight'
         else p_facts ->> 'as_of_mode' end,
    case when dead.found and p_dead.status = 'failed' then p_dead.run_id end,
    case when dead.found and p_dead.status = 'failed' and p_dead.transport = 'rest' and p_facts ->> 'transport' = 'rest'
         then p_dead.began end
  from (select p_dead.run_id is not null
               and (p_facts ->> 'as_of_mode' = 'resume' or p_facts ->> 'resume_run' is not null) as found) dead
$$;

-- The run that holds the lease says so to everyone who asks for it.
create or replace function public.etl_held_by(p_run public.etl_runs) returns text
language sql stable set search_path = '' as
$$
  select format('run %s has held the lease since %s and was last heard of %s', p_run.run_id,
    to_char(p_run.started_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS "UTC"'),
    to_char(p_run.heartbeat at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS "UTC"'))
$$;

-- Take the lease. p_facts: transport, as_of (or null), as_of_mode, lease_seconds, resume_within, code_version, historical,
-- kind, and if there are such: earlier (tokens of the caller's own earlier attempts), resume_run, started_by, yields (give
-- way to a run that waits). Sent twice with one token it answers the same. A holder that has been unresponsive for its term
-- is replaced, and so is at once one whose token the caller presents. Who holds the lease is read without a lock first: a
-- holder in the middle of its load has its row locked, and nobody must wait for that to be told so.
create or replace function public.etl_start(p_run text, p_token text, p_facts jsonb) returns jsonb
language plpgsql set search_path = '' as
$$
declare
  facts constant jsonb := public.etl_json(p_facts);
  holder public.etl_runs;
  waiting text;
  mine public.etl_runs;
begin
  select * into mine from public.etl_runs r where r.run_id = p_run and r.token = p_token::uuid;
  if found then
    return public.etl_run_json(mine);
  end if;
  if coalesce((facts ->> 'yields')::boolean, false) then
    select w.run_id into waiting from public.etl_waiting w
    where w.run_id <> p_run and w.seen_at > clock_timestamp() - interval '15 seconds' limit 1;
    if found then
      raise exception 'run % waits for the lease, and goes first', waiting using errcode = 'ET001';
    end if;
  end if;
  loop
    select * into holder from public.etl_runs r where r.status in ('running', 'loading');
    if found then
      perform public.etl_replace(holder, p_run, facts);
    end if;
    begin
      insert into public.etl_runs (run_id, token, kind, status, transport, as_of, as_of_mode, historical, lease_seconds, code_version,
                                   resumed_from, began, started_by)
      select p_run, p_token::uuid, coalesce(facts ->> 'kind', 'run'), 'running', facts ->> 'transport', x.as_of, x.as_of_mode,
             coalesce((facts ->> 'historical')::boolean, false), (facts ->> 'lease_seconds')::integer,
             facts ->> 'code_version', x.resumed_from, x.began, facts ->> 'started_by'
      from public.etl_as_of(facts, public.etl_resumable(facts)) x
      returning * into mine;
      delete from public.etl_waiting w where w.run_id = p_run or w.seen_at < clock_timestamp() - interval '1 day';
      return public.etl_run_json(mine);
    exception when unique_violation then
      null;  -- another start was quicker: look at it
    end;
  end loop;
end
$$;

-- End the holder of the lease if it may be: it is unresponsive, or it is an earlier attempt of the caller's. ET001 if not.
create or replace function public.etl_replace(p_holder public.etl_runs, p_run text, p_facts jsonb) returns void
language plpgsql set search_path = '' as
$$
declare
  own constant boolean := coalesce(p_facts -> 'earlier', '[]') ? p_holder.token::text;
  holder public.etl_runs;
begin
  if not own and p_holder.heartbeat > clock_timestamp() - make_interval(secs => p_holder.lease_seconds) then
    raise exception '%', public.etl_held_by(p_holder) using errcode = 'ET001';
  end if;
  begin
    select * into holder from public.etl_runs r
    where r.run_id = p_holder.run_id and r.status in ('running', 'loading') for update nowait;
  exception when lock_not_available then
    raise exception '%; it is writing at this moment', public.etl_held_by(p_holder) using errcode = 'ET001';
  end;
  if not found then
    return;  -- it has ended meanwhile
  end if;
  if not own and holder.heartbeat > clock_timestamp() - make_interval(secs => holder.lease_seconds) then
    raise exception '%', public.etl_held_by(holder) using errcode = 'ET001';
  end if;
  update public.etl_runs r
  set status = 'failed', finished_at = clock_timestamp(),
      error = case when own then format('Started again as run %s.', p_run)
                   else format('Unresponsive for more than its term of %s s; replaced by run %s.', holder.lease_seconds, p_run) end
  where r.run_id = holder.run_id;
end
$$;

-- A run that was declined waits: etl_start with `yields` gives way to it for the next 15 seconds.
create or replace function public.etl_wait(p_run text) returns jsonb
language plpgsql set search_path = '' as
$$
begin
  insert into public.etl_waiting (run_id) values (p_run)
  on conflict (run_id) do update set seen_at = clock_timestamp();
  return 'true';
end
$$;

-- Reading began: settles as_of (`now` is this instant) and whether the run is historical: only one whose past instant
-- somebody asked for, before the current run's. A scheduled midnight after a `now` of the same day becomes current.
create or replace function public.etl_begin(p_run text, p_token text, p_began text) returns jsonb
language plpgsql set search_path = '' as
$$
declare
  v_began timestamptz := p_began::timestamptz;
  mine public.etl_runs := public.etl_require_lease(p_run, p_token);
begin
  update public.etl_runs r
  set began = v_began, as_of = coalesce(r.as_of, v_began),
      historical = r.historical or (r.as_of_mode = 'at' and coalesce(r.as_of < (public.etl_current()).as_of, false))
  where r.run_id = mine.run_id
  returning * into mine;
  return public.etl_run_json(mine);
end
$$;

-- The commit, in one transaction. p_facts: manifest_path, manifest_sha256, counts, seconds, bytes, and refused, all rows
-- of this run that the database did not take ([{table, key, column, came, expected}]). p_aggregates: name → {rows, whole}.
-- Sent twice it answers the same. Statistics of a later as_of go, as in a restore: whoever asks for the newest gets the
-- current run's.
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
    delete from public.user_statistics s where s.as_of > mine.as_of;
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

-- What reading these tables takes, by the planner's estimate ([{schema, table, columns}] → [{rows, width}] in their order),
-- and the size of the table on the server's disk, null for a view.
create or replace function public.etl_estimate(p_tables jsonb) returns jsonb
language plpgsql set search_path = '' as
$$
declare
  wanted jsonb;
  columns text;
  explained json;
  answer jsonb := '[]';
  relation regclass;
begin
  for wanted in select value from jsonb_array_elements(public.etl_json(p_tables)) loop
    relation := format('%I.%I', wanted ->> 'schema', wanted ->> 'table')::regclass;
    select string_agg(quote_ident(a.attname), ', ') into columns from pg_attribute a
    where a.attrelid = relation and a.attnum > 0 and not a.attisdropped
      and wanted -> 'columns' ? a.attname::text;
    execute format('explain (format json) select %s from %s', columns, relation) into explained;
    answer := answer || jsonb_build_object(
      'rows', (explained #>> '{0,Plan,Plan Rows}')::numeric, 'width', (explained #>> '{0,Plan,Plan Width}')::numeric,
      'bytes', (select pg_table_size(c.oid) from pg_class c where c.oid = relation and c.relkind in ('r', 'p', 'm', 'f')));
  end loop;
  return answer;
end
$$;

do $$
declare
  f regprocedure;
begin
  for f in
    select p.oid from pg_proc p
    where p.pronamespace = 'public'::regnamespace
      and p.proname in ('etl_start', 'etl_replace', 'etl_held_by', 'etl_wait', 'etl_resumable', 'etl_as_of', 'etl_begin', 'etl_commit',
                        'etl_estimate')
  loop
    execute format('revoke all on function %s from public, anon, authenticated', f);
    execute format('grant execute on function %s to etl, service_role', f);
  end loop;
end
$$;
