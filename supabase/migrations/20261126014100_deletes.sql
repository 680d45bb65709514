-- A row that left the source, and that a trigger keeps in the cleaned table without an error (it returns null), fails the run as an
-- error of the trigger does. It stayed, and no count said so.
set local lock_timeout = '5s';

-- One batch of keys that left the source. Answers {deleted}; 09000 where a row is still there.
create or replace function public.etl_delete(p_run text, p_token text, p_batch text, p_table text, p_ids jsonb)
returns jsonb language plpgsql set search_path = '' as
$$
declare
  target constant regclass := public.etl_table('clean', p_table);
  shape record;
  ids constant jsonb := public.etl_json(p_ids);
  gone bigint;
  kept boolean;
  outcome jsonb;
begin
  perform public.etl_require_lease(p_run, p_token);
  insert into public.etl_batches (run_id, batch) values (p_run, p_batch) on conflict do nothing;
  if not found then
    select b.answer into outcome from public.etl_batches b where b.run_id = p_run and b.batch = p_batch;
    return outcome;
  end if;
  select * into shape from public.etl_shape(target);
  execute format('delete from %s t where t.%s = any (array(select x::%s from jsonb_array_elements_text($1) x))',
                 target, shape.key, shape.key_type) using ids;
  get diagnostics gone = row_count;
  if gone < jsonb_array_length(ids) then
    execute format('select exists (select from %s t where t.%s = any (array(select x::%s from jsonb_array_elements_text($1) x)))',
                   target, shape.key, shape.key_type) into kept using ids;
    if kept then
      raise exception 'a trigger keeps rows of % that left the source', target using errcode = '09000';  -- triggered action exception
    end if;
  end if;
  outcome := jsonb_build_object('deleted', gone);
  update public.etl_batches b set answer = outcome where b.run_id = p_run and b.batch = p_batch;
  return outcome;
end
$$;
