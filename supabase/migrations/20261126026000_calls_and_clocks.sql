-- A call for the lease whose answer was lost and that was sent again while the first was still carried out was declined by its own run. A
-- restart that died before it reached the ledger left the one after it without its as_of. A waiting run that a clock dated ahead kept
-- backfills out until that instant. And a watch did not see changes in tables that inherit from a source.

set local lock_timeout = '5s';

-- The run that a new one may resume. With `resume_run` (a list of ids of runs, or of the `started_by` of such) the last of these that
-- failed or was committed; else the last run, when it failed. In both cases when it started less than `resume_within` seconds ago.
create or replace function public.etl_resumable(p_facts jsonb) returns public.etl_runs
language sql stable set search_path = '' as
$$
  select r.* from public.etl_runs r
  where r.kind = 'run' and r.as_of is not null
    and r.started_at > clock_timestamp() - make_interval(secs => (p_facts ->> 'resume_within')::integer)
    and case when p_facts ->> 'resume_run' is not null
      then (p_facts -> 'resume_run' ? r.run_id or p_facts -> 'resume_run' ? r.started_by) and r.status in ('failed', 'committed')
      else r.status = 'failed' and not r.historical
        and r.run_id = (select l.run_id from public.etl_runs l where l.kind = 'run' order by l.started_at desc limit 1)
    end
  order by r.started_at desc limit 1
$$;

-- Take the lease. p_facts: transport, as_of (or null), as_of_mode, lease_seconds, resume_within, code_version, historical,
-- kind, and if there are such: earlier (tokens of the caller's own earlier attempts), resume_run, started_by, yields (give
-- way to a run that waits). Sent twice with one token it answers the same: the second call waits for the end of the first. A holder that
-- has been unresponsive for its term is replaced, and so is at once one whose token the caller presents. Who holds the lease is read
-- without a lock first: a holder in the middle of its load has its row locked, and nobody must wait for that to learn it.
create or replace function public.etl_start(p_run text, p_token text, p_facts jsonb) returns jsonb
language plpgsql set search_path = '' as
$$
declare
  facts constant jsonb := public.etl_json(p_facts);
  holder public.etl_runs;
  waiting text;
  mine public.etl_runs;
begin
  perform pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtext('public.etl_start'), pg_catalog.hashtext(p_run));
  select * into mine from public.etl_runs r where r.run_id = p_run and r.token = p_token::uuid;
  if found then
    return public.etl_run_json(mine);
  end if;
  if coalesce((facts ->> 'yields')::boolean, false) then
    select w.run_id into waiting from public.etl_waiting w
    where w.run_id <> p_run
      and w.seen_at between clock_timestamp() - interval '15 seconds' and clock_timestamp() + interval '15 seconds' limit 1;
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
      delete from public.etl_waiting w where w.run_id = p_run
        or w.seen_at not between clock_timestamp() - interval '1 day' and clock_timestamp() + interval '1 day';
      return public.etl_run_json(mine);
    exception when unique_violation then
      null;  -- another start was quicker: look at it
    end;
  end loop;
end
$$;

-- What may have changed in the sources, for whoever starts a run because of it, as before; of a table also what inherits from it.
create or replace function public.etl_changes(p_sources jsonb) returns jsonb
language sql volatile set search_path = '' as
$$
  with sources as (
    select s ->> 'name' as name, s ->> 'schema' as schema, s ->> 'table' as relname,
           to_regclass(format('%I.%I', s ->> 'schema', s ->> 'table')) as relation
    from jsonb_array_elements(public.etl_json(p_sources)) s
  ), counted as (
    select s.name, bool_or(t.relid is not null) and not bool_or(coalesce(c.relkind, b.kind) = 'f') as counted,
           coalesce(sum(pg_catalog.pg_stat_get_tuples_inserted(t.relid) + pg_catalog.pg_stat_get_tuples_updated(t.relid)
             + pg_catalog.pg_stat_get_tuples_deleted(t.relid)), 0) as changes,
           md5(string_agg(concat_ws(':', t.relid, pg_catalog.pg_relation_filenode(t.relid), c.relnatts), ','
             order by t.relid)) as marker
    from sources s
    left join lateral public.etl_relations_behind(s.relation) b on true
    left join lateral (
      with recursive below as (
        select b.relation as relid where b.kind <> 'v' and b.kind <> 'f'
        union
        select i.inhrelid from below join pg_catalog.pg_inherits i on i.inhparent = below.relid
      )
      select w.relid from below w join pg_catalog.pg_class k on k.oid = w.relid where k.relkind <> 'p'
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

create or replace function public.etl_release() returns text
language sql immutable set search_path = '' as $$ select '20261126026000' $$;
