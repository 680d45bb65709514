-- The run that was committed or restored last is the current one, also where the database's clock was set back since: until the
-- clock had caught up, readers went on seeing an earlier run, and each night was compared with it.
set local lock_timeout = '5s';

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
      current_at = case when not r.historical
        then greatest(clock_timestamp(), (select max(c.current_at) from public.etl_runs c) + interval '1 microsecond') end
  where r.run_id = p_run
  returning * into mine;
  return public.etl_run_json(mine);
end
$$;

create or replace function public.etl_restore(p_run text, p_token text, p_target text, p_aggregates jsonb) returns jsonb
language plpgsql set search_path = '' as
$$
declare
  mine public.etl_runs;
  target public.etl_runs;
  item record;
begin
  select * into mine from public.etl_runs r where r.run_id = p_run and r.token = p_token::uuid and r.status = 'committed';
  if found then
    return public.etl_run_json(mine);
  end if;
  mine := public.etl_require_lease(p_run, p_token);
  select * into target from public.etl_runs r
  where r.run_id = p_target and r.status = 'committed' and r.kind = 'run' and not r.historical
  for update;
  if not found then
    raise exception 'run % is not a committed run that was ever current', p_target using errcode = 'ET004';
  end if;
  for item in select a.key as name, a.value as content from jsonb_each(public.etl_json(p_aggregates)) a loop
    perform public.etl_put(item.name, item.content -> 'rows', (item.content ->> 'whole')::boolean);
  end loop;
  delete from public.user_statistics s where s.as_of > target.as_of;
  update public.etl_runs r
  set current_at = greatest(clock_timestamp(), (select max(c.current_at) from public.etl_runs c) + interval '1 microsecond')
  where r.run_id = target.run_id;
  update public.etl_runs r
  set status = 'committed', stage = 'restored', historical = true, as_of = target.as_of, finished_at = clock_timestamp(),
      manifest_path = target.manifest_path, manifest_sha256 = target.manifest_sha256, restored_run = target.run_id
  where r.run_id = mine.run_id
  returning * into mine;
  return public.etl_run_json(mine);
end
$$;
