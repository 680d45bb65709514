-- The ledger of a project that is watched: some hundred runs a day. The run that readers see was looked for once for each newer row, so
-- that after a restore to a week ago no run could start within the eight seconds of a call over REST; and a backfill fetched every
-- committed run that there ever was in one answer, which has a limit of its own.

set local lock_timeout = '5s';

create index if not exists etl_runs_current on public.etl_runs (current_at desc) where current_at is not null;

-- Rows of the ledger, newest first. p_filter: status, run_id, kind, historical, current (the run that readers see, alone), as_of (a list
-- of instants), limit. What is asked for is part of the statement, so that it is planned for; what is looked for never is.
create or replace function public.etl_history(p_filter jsonb) returns jsonb
language plpgsql stable set search_path = '' as $$
declare
  filter constant jsonb := public.etl_json(p_filter);
  conditions constant text := concat(
    case when filter ->> 'status' is not null then ' and r.status = $1 ->> ''status''' end,
    case when filter ->> 'run_id' is not null then ' and r.run_id = $1 ->> ''run_id''' end,
    case when filter ->> 'kind' is not null then ' and r.kind = $1 ->> ''kind''' end,
    case when filter ->> 'historical' is not null then ' and r.historical = ($1 ->> ''historical'')::boolean' end,
    case when filter ->> 'as_of' is not null then
      ' and r.as_of = any (array(select a::timestamptz from jsonb_array_elements_text($1 -> ''as_of'') a))' end,
    case when (filter ->> 'current')::boolean then ' and r.run_id = (select c.run_id from public.etl_current() c)' end);
  answer jsonb;
begin
  execute format(
    'select coalesce(jsonb_agg(public.etl_run_json(c) order by c.started_at desc), ''[]'') from public.etl_runs c
     where c.run_id = any (array(select r.run_id from public.etl_runs r where true %s order by r.started_at desc limit $2))', conditions)
  into answer using filter, coalesce((filter ->> 'limit')::integer, 100);
  return answer;
end
$$;

create or replace function public.etl_release() returns text
language sql immutable set search_path = '' as $$ select '20261126023000' $$;
