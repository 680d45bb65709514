-- The bucket `reports` must be ours and private: the cleaned tables are in it. One that was there before, public or with
-- files of the product's, is never used without a word. A plain PostgreSQL has no Storage: then there is nothing to do.
set lock_timeout = '5s';

do $$
declare
  stranger text;
begin
  if to_regclass('storage.buckets') is null then
    return;
  end if;
  if exists (select from storage.buckets where id = 'reports' and public) then
    raise exception 'The bucket `reports` is public: anyone could read the cleaned tables without a key. Make it private in the dashboard under Storage, or rename it if it is the product''s own';
  end if;
  select name into stranger from storage.objects
  where bucket_id = 'reports' and name !~ '^((runs|exports|uploads|doctor)/|latest\.json$)' and name !~ '\.emptyFolderPlaceholder$'
  limit 1;
  if found then
    raise exception 'The bucket `reports` holds files that are not the pipeline''s, like `%`: analysts could read them, and it would be ours to clean. Move them to another bucket', stranger;
  end if;
exception when insufficient_privilege then
  raise warning 'this role may not look into Storage: see in the dashboard that the bucket `reports` is private and has no other files';
end
$$;
