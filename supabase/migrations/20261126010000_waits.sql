-- What a run waits for, when somebody else holds a lock: it says so instead of only taking longer.

set local lock_timeout = '5s';

-- Our sessions of this login that have waited for a lock longer than p_seconds: [{table, seconds, pid, application, state}], one
-- for each session in the way. As its owner, since the role of a run may not look at its own login's sessions; what the owner may
-- not see either is null. There are none over REST, whose statements the server ends after seconds.
create or replace function public.etl_waits(p_seconds jsonb) returns jsonb
language sql stable security definer set search_path = '' as
$$
  select coalesce(jsonb_agg(jsonb_build_object(
    'table', (select l.relation::regclass::text from pg_catalog.pg_locks l where l.pid = w.pid and not l.granted and l.relation is not null limit 1),
    'seconds', extract(epoch from clock_timestamp() - w.query_start)::integer,
    'pid', x.pid, 'application', nullif(b.application_name, ''), 'state', b.state)), '[]')
  from pg_catalog.pg_stat_activity w
  cross join lateral unnest(pg_catalog.pg_blocking_pids(w.pid)) x(pid)
  left join pg_catalog.pg_stat_activity b on b.pid = x.pid
  where w.usename = session_user and w.application_name = 'supabase-nightly' and w.wait_event_type = 'Lock'
    and w.query_start < clock_timestamp() - make_interval(secs => (public.etl_json(p_seconds) #>> '{}')::float8)
$$;
revoke all on function public.etl_waits(jsonb) from public, anon, authenticated;
grant execute on function public.etl_waits(jsonb) to etl, service_role;
