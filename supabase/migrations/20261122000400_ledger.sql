-- The ledger, one row a run, which is the lease too.
--
-- Errors of ours have SQLSTATEs of class ET; their messages name runs and tables only, never a value of a row:
--   ET001 another run holds the lease     ET002 the lease is lost     ET003 more rows refused than allowed
--   ET004 no such table or run            ET005 this run is finished
--
-- All functions: parameters are text or jsonb, the result is json. Some servers hand a JSON argument over as a JSON
-- string; etl_json unwraps it.

-- An earlier version of a function may have other arguments; two of a name would leave REST without a choice.
do $$
declare
  f regprocedure;
begin
  for f in
    select p.oid from pg_proc p where p.pronamespace = 'public'::regnamespace and p.proname in (
      'etl_json', 'etl_run_json', 'etl_current', 'etl_require_lease', 'etl_start', 'etl_resumable', 'etl_as_of',
      'etl_begin', 'etl_beat', 'etl_stage', 'etl_finish', 'etl_history')
  loop
    execute format('drop function %s', f);
  end loop;
end
$$;

create table if not exists public.etl_runs (
  run_id text primary key,
  token uuid not null,
  kind text not null default 'run' check (kind in ('run', 'restore')),
  status text not null check (status in ('running', 'loading', 'committed', 'held', 'failed')),
  transport text not null,
  as_of timestamptz,
  as_of_mode text not null,
  began timestamptz,
  historical boolean not null default false,
  stage text,
  counts jsonb not null default '{}',
  seconds jsonb not null default '{}',
  bytes jsonb not null default '{}',
  manifest_path text,
  manifest_sha256 text,
  started_at timestamptz not null default clock_timestamp(),
  heartbeat timestamptz not null default clock_timestamp(),
  lease_seconds integer not null,
  finished_at timestamptz,
  current_at timestamptz,
  error text,
  code_version text,
  resumed_from text,
  restored_run text
);
comment on table public.etl_runs is 'One row a run of the nightly pipeline: who holds the lease, what was counted, how it ended.';
comment on column public.etl_runs.token is 'Known to the run only; every write carries it, so that a run that was replaced can write no more.';
comment on column public.etl_runs.historical is 'For an earlier as_of: moved neither the pointer, nor the cleaned tables, nor the drift baseline.';
comment on column public.etl_runs.current_at is 'When the pointer was last set to this run, by its commit or by a restore; the latest one is current.';

-- Whoever gets a row past this index holds the lease.
create unique index if not exists etl_runs_lease on public.etl_runs ((true)) where status in ('running', 'loading');
create index if not exists etl_runs_started on public.etl_runs (started_at);

alter table public.etl_runs enable row level security;
revoke all on public.etl_runs from public, anon, authenticated;
grant select, insert, update, delete on public.etl_runs to etl, service_role;
drop policy if exists etl_all on public.etl_runs;
create policy etl_all on public.etl_runs to etl using (true) with check (true);

create or replace function public.etl_json(p_value jsonb) returns jsonb
language sql immutable set search_path = '' as
$$ select case jsonb_typeof(p_value) when 'string' then (p_value #>> '{}')::jsonb else p_value end $$;

-- What callers see of a run. The token never leaves.
create or replace function public.etl_run_json(p_run public.etl_runs) returns jsonb
language sql stable set search_path = '' as
$$ select to_jsonb(p_run) - 'token' $$;

-- The run that latest.json points to, and whose aggregates are in Postgres.
create or replace function public.etl_current() returns public.etl_runs
language sql stable set search_path = '' as
$$ select r.* from public.etl_runs r where r.current_at is not null order by r.current_at desc limit 1 $$;

-- Proves that the caller still holds the lease, and keeps it from being taken over until the transaction ends. A takeover
-- locks the row FOR UPDATE, which waits for this; a heartbeat does not.
create or replace function public.etl_require_lease(p_run text, p_token text) returns public.etl_runs
language plpgsql set search_path = '' as
$$
declare
  found_run public.etl_runs;
begin
  select * into found_run from public.etl_runs r
  where r.run_id = p_run and r.token = p_token::uuid and r.status in ('running', 'loading')
  for key share;
  if not found then
    raise exception 'run % does not hold the lease any more', p_run using errcode = 'ET002';
  end if;
  return found_run;
end
$$;

-- Take the lease. p_facts: transport, as_of (or null), as_of_mode, lease_seconds, resume_within, code_version, historical,
-- kind. Sent twice with one token it answers the same. A holder silent for its own term is replaced.
create or replace function public.etl_start(p_run text, p_token text, p_facts jsonb) returns jsonb
language plpgsql set search_path = '' as
$$
declare
  facts jsonb := public.etl_json(p_facts);
  holder public.etl_runs;
  dead public.etl_runs;
  mine public.etl_runs;
begin
  select * into mine from public.etl_runs r where r.run_id = p_run and r.token = p_token::uuid;
  if found then
    return public.etl_run_json(mine);
  end if;
  loop
    select * into holder from public.etl_runs r where r.status in ('running', 'loading') for update;
    if found then
      if holder.heartbeat > clock_timestamp() - make_interval(secs => holder.lease_seconds) then
        raise exception 'run % has held the lease since % and was last heard of %', holder.run_id,
          to_char(holder.started_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS "UTC"'),
          to_char(holder.heartbeat at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS "UTC"') using errcode = 'ET001';
      end if;
      update public.etl_runs r
      set status = 'failed', finished_at = clock_timestamp(),
          error = format('Silent for more than its term of %s s; replaced by run %s.', holder.lease_seconds, p_run)
      where r.run_id = holder.run_id;
    end if;
    dead := public.etl_resumable((facts ->> 'resume_within')::integer);
    begin
      insert into public.etl_runs (run_id, token, kind, status, transport, as_of, as_of_mode, historical, lease_seconds, code_version,
                                   resumed_from, began)
      select p_run, p_token::uuid, coalesce(facts ->> 'kind', 'run'), 'running', facts ->> 'transport', x.as_of,
             facts ->> 'as_of_mode', coalesce((facts ->> 'historical')::boolean, false),
             (facts ->> 'lease_seconds')::integer, facts ->> 'code_version', x.resumed_from, x.began
      from public.etl_as_of(facts, dead) x
      returning * into mine;
      return public.etl_run_json(mine);
    exception when unique_violation then
      null;  -- another start was quicker: look at it
    end;
  end loop;
end
$$;

-- The last run, when it failed less than p_within seconds after it started and nothing was committed since.
create or replace function public.etl_resumable(p_within integer) returns public.etl_runs
language sql stable set search_path = '' as
$$
  select r.* from public.etl_runs r
  where r.run_id = (select l.run_id from public.etl_runs l where l.kind = 'run' order by l.started_at desc limit 1)
    and r.status = 'failed' and r.as_of is not null and not r.historical
    and r.started_at > clock_timestamp() - make_interval(secs => p_within)
$$;

-- What a new run speaks of: `resume` takes over the dead run's as_of, and its `began` where a reading over REST goes on.
create or replace function public.etl_as_of(p_facts jsonb, p_dead public.etl_runs)
returns table (as_of timestamptz, resumed_from text, began timestamptz)
language sql stable set search_path = '' as
$$
  select
    case p_facts ->> 'as_of_mode'
      when 'now' then null
      when 'resume' then coalesce(p_dead.as_of, given.at, today.midnight)
      else coalesce(given.at, today.midnight)
    end,
    case when p_facts ->> 'as_of_mode' = 'resume' then p_dead.run_id end,
    case when p_facts ->> 'as_of_mode' = 'resume' and p_dead.transport = 'rest' and p_facts ->> 'transport' = 'rest'
         then p_dead.began end
  from (select (p_facts ->> 'as_of')::timestamptz as at) given,
       (select date_trunc('day', clock_timestamp(), 'UTC') as midnight) today
$$;

-- Reading began: settles as_of (`now` is this instant) and whether the run is for an earlier as_of than the current one.
create or replace function public.etl_begin(p_run text, p_token text, p_began text) returns jsonb
language plpgsql set search_path = '' as
$$
declare
  v_began timestamptz := p_began::timestamptz;
  mine public.etl_runs := public.etl_require_lease(p_run, p_token);
begin
  update public.etl_runs r
  set began = v_began, as_of = coalesce(r.as_of, v_began),
      historical = r.historical or coalesce(coalesce(r.as_of, v_began) < (public.etl_current()).as_of, false)
  where r.run_id = mine.run_id
  returning * into mine;
  return public.etl_run_json(mine);
end
$$;

-- The holder is alive. Answers its status; ET002 when it was replaced.
create or replace function public.etl_beat(p_run text, p_token text) returns jsonb
language plpgsql set search_path = '' as
$$
declare
  answer text;
begin
  update public.etl_runs r set heartbeat = clock_timestamp()
  where r.run_id = p_run and r.token = p_token::uuid and r.status in ('running', 'loading')
  returning r.status into answer;
  if answer is null then
    select r.status into answer from public.etl_runs r
    where r.run_id = p_run and r.token = p_token::uuid and r.status in ('committed', 'held');
  end if;
  if answer is null then
    raise exception 'run % does not hold the lease any more', p_run using errcode = 'ET002';
  end if;
  return to_jsonb(answer);
end
$$;

-- A stage begins, with what is known so far. p_figures: seconds, bytes, counts; each is merged into what is there. After
-- its commit a run may still tell what came then (the pointer, its last figures).
create or replace function public.etl_stage(p_run text, p_token text, p_stage text, p_figures jsonb) returns jsonb
language plpgsql set search_path = '' as
$$
declare
  figures constant jsonb := public.etl_json(p_figures);
begin
  update public.etl_runs r
  set stage = p_stage, heartbeat = clock_timestamp(),
      status = case when p_stage = 'load' and r.status = 'running' and not r.historical then 'loading' else r.status end,
      seconds = r.seconds || coalesce(figures -> 'seconds', '{}'),
      bytes = r.bytes || coalesce(figures -> 'bytes', '{}'),
      counts = r.counts || coalesce(figures -> 'counts', '{}')
  where r.run_id = p_run and r.token = p_token::uuid and r.status in ('running', 'loading', 'committed');
  if not found then
    raise exception 'run % does not hold the lease any more', p_run using errcode = 'ET002';
  end if;
  return 'true';
end
$$;

-- The run ends without a commit: p_status is failed or held. A run that was replaced, or is finished, stays as it is.
create or replace function public.etl_finish(p_run text, p_token text, p_status text, p_error text, p_figures jsonb) returns jsonb
language plpgsql set search_path = '' as
$$
declare
  figures jsonb := coalesce(public.etl_json(p_figures), '{}');
begin
  if p_status not in ('failed', 'held') then
    raise exception 'a run ends as failed or held, not as %', p_status using errcode = 'ET004';
  end if;
  update public.etl_runs r
  set status = p_status, error = left(p_error, 4000), finished_at = clock_timestamp(),
      seconds = r.seconds || coalesce(figures -> 'seconds', '{}'),
      bytes = r.bytes || coalesce(figures -> 'bytes', '{}'),
      counts = r.counts || coalesce(figures -> 'counts', '{}')
  where r.run_id = p_run and r.token = p_token::uuid and r.status in ('running', 'loading');
  return to_jsonb(found);
end
$$;

-- The ledger, newest first. p_filter: limit, status, run_id, kind, current (only the run that is current).
create or replace function public.etl_history(p_filter jsonb) returns jsonb
language sql stable set search_path = '' as
$$
  with f as (select public.etl_json(p_filter) as x),
  chosen as (
    select r as run, r.started_at from public.etl_runs r, f
    where (f.x ->> 'status' is null or r.status = f.x ->> 'status')
      and (f.x ->> 'run_id' is null or r.run_id = f.x ->> 'run_id')
      and (f.x ->> 'kind' is null or r.kind = f.x ->> 'kind')
      and (f.x ->> 'historical' is null or r.historical = (f.x ->> 'historical')::boolean)
      and (not coalesce((f.x ->> 'current')::boolean, false) or r.run_id = (public.etl_current()).run_id)
    order by r.started_at desc
    limit (select coalesce((f.x ->> 'limit')::integer, 100) from f)
  )
  select coalesce(jsonb_agg(public.etl_run_json(c.run) order by c.started_at desc), '[]') from chosen c
$$;

do $$
declare
  f regprocedure;
begin
  for f in
    select p.oid from pg_proc p
    where p.pronamespace = 'public'::regnamespace
      and p.proname in ('etl_json', 'etl_run_json', 'etl_current', 'etl_require_lease', 'etl_start', 'etl_resumable', 'etl_as_of',
                        'etl_begin', 'etl_beat', 'etl_stage', 'etl_finish', 'etl_history')
  loop
    execute format('revoke all on function %s from public, anon, authenticated', f);
    execute format('grant execute on function %s to etl, service_role', f);
  end loop;
end
$$;
