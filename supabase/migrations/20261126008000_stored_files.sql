-- The files of one run, as Storage's own table has them: Storage lists folder by folder, and each month has a folder.

set local lock_timeout = '5s';

-- [path, size in bytes, eTag] of each file of a bucket whose path begins so; null where this database has no Storage, or the
-- caller may not look into it: then Storage is asked. Rows are the caller's: the policies of Storage hold here too.
create or replace function public.etl_stored_files(p_bucket text, p_prefix text) returns jsonb
language plpgsql stable set search_path = '' as
$$
declare
  found_files jsonb;
begin
  if to_regclass('storage.objects') is null then
    return null;
  end if;
  execute 'select coalesce(jsonb_agg(jsonb_build_array(o.name, o.metadata -> ''size'', o.metadata ->> ''eTag'')), ''[]'')
           from storage.objects o where o.bucket_id = $1 and starts_with(o.name, $2)'
  into found_files using p_bucket, p_prefix;
  return found_files;
exception when insufficient_privilege or undefined_column then
  return null;
end
$$;
revoke all on function public.etl_stored_files(text, text) from public, anon, authenticated;
grant execute on function public.etl_stored_files(text, text) to etl, service_role;
