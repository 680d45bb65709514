-- What `make doctor` asks of the database: who the caller really is, the clock, the limits. It reads no row.
-- Over REST a function is the only way to see them.
create or replace function public.etl_doctor() returns jsonb
language sql stable set search_path = '' as $$
  select jsonb_build_object(
    'role', current_user,
    'clock', to_char(clock_timestamp() at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"'),
    'version', current_setting('server_version'),
    'statement_timeout_ms',
      (extract(epoch from current_setting('statement_timeout')::interval) * 1000)::bigint,
    'bypasses_rls', (select r.rolbypassrls or r.rolsuper from pg_catalog.pg_roles r where r.rolname = current_user)
  )
$$;
revoke all on function public.etl_doctor() from public, anon, authenticated;
grant execute on function public.etl_doctor() to service_role, etl;
