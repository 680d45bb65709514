-- The API of a Supabase project loads pg-safeupdate, which refuses a DELETE or UPDATE without a WHERE (21000), in functions as well: no
-- run over REST could commit there, nor mark its base as mistrusted.

set local lock_timeout = '5s';

-- The commit, in one transaction, as before.
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
  delete from public.etl_batches where true;
  update public.etl_runs r
  set status = 'committed', stage = 'committed', finished_at = clock_timestamp(), heartbeat = clock_timestamp(), error = null,
      manifest_path = facts ->> 'manifest_path', manifest_sha256 = facts ->> 'manifest_sha256',
      counts = r.counts || coalesce(facts -> 'counts', '{}'),
      seconds = r.seconds || coalesce(facts -> 'seconds', '{}'),
      bytes = r.bytes || coalesce(facts -> 'bytes', '{}'),
      current_at = case when not r.historical
        then greatest(clock_timestamp(), (select max(c.current_at) from public.etl_runs c) + interval '1 microsecond') end
  where r.run_id = p_run
  returning * into mine;
  return public.etl_run_json(mine);
end
$$;

-- A mistrusted base: the next night reads everything. As before.
create or replace function public.etl_distrust_base(p_run text, p_token text) returns jsonb
language plpgsql set search_path = '' as
$$
begin
  perform public.etl_require_lease(p_run, p_token);
  update public.etl_base set dirty = true where true;
  return 'true';
end
$$;

create or replace function public.etl_release() returns text
language sql immutable set search_path = '' as $$ select '20261126024000' $$;
