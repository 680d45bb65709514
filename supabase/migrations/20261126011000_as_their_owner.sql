-- Functions that act as their owner find every name in pg_catalog: with an empty search_path a caller's temporary types come first,
-- and what a type of his runs, his domain's CHECK for instance, would run as the owner.

set local lock_timeout = '5s';

alter function public.etl_seed_value() set search_path = pg_catalog, pg_temp;
alter function public.etl_seed_id() set search_path = pg_catalog, pg_temp;

-- As in 20261126010000, but the seconds are those of the wait itself, and not of the statement that waits.
create or replace function public.etl_waits(p_seconds jsonb) returns jsonb
language sql stable security definer set search_path = pg_catalog, pg_temp as
$$
  select coalesce(jsonb_agg(jsonb_build_object(
    'table', l.relation::regclass::text,
    'seconds', extract(epoch from clock_timestamp() - l.waitstart)::integer,
    'pid', x.pid, 'application', nullif(b.application_name, ''), 'state', b.state)), '[]')
  from pg_locks l
  join pg_stat_activity w on w.pid = l.pid
  cross join lateral unnest(pg_blocking_pids(l.pid)) x(pid)
  left join pg_stat_activity b on b.pid = x.pid
  where not l.granted and w.usename = session_user and w.application_name = 'supabase-nightly'
    and l.waitstart < clock_timestamp() - make_interval(secs => (public.etl_json(p_seconds) #>> '{}')::float8)
$$;
