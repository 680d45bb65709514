-- etl_waits acts as its owner, and so does etl_json when etl_waits calls it: there, too, a caller's temporary type named jsonb came
-- before the real one, and its CHECK ran as the owner.

set local lock_timeout = '5s';

alter function public.etl_json(jsonb) set search_path = pg_catalog, pg_temp;

create or replace function public.etl_release() returns text
language sql immutable set search_path = '' as $$ select '20261126016000' $$;
