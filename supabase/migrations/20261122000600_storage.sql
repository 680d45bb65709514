-- The bucket of the reports, private, and who of the signed-in users may read it. A plain PostgreSQL has no Storage: then
-- there is nothing to do here.
do $$
begin
  if to_regclass('storage.buckets') is null then
    raise notice 'no Storage here: the bucket `reports` was not made';
    return;
  end if;
  insert into storage.buckets (id, name, public) values ('reports', 'reports', false) on conflict (id) do nothing;
exception when insufficient_privilege then
  raise notice 'this role may not make buckets: make the private bucket `reports` in the dashboard';
end
$$;

do $$
begin
  if to_regclass('storage.objects') is null then
    return;
  end if;
  drop policy if exists "analysts read reports" on storage.objects;
  create policy "analysts read reports" on storage.objects for select to authenticated
    using (
      bucket_id = 'reports'
      and (select nullif(current_setting('request.jwt.claims', true), '')::jsonb -> 'app_metadata' ->> 'etl_role') = 'analyst'
    );
exception when insufficient_privilege then
  raise notice 'this role may not make policies on storage.objects: analysts get no files until the dashboard has the policy';
end
$$;

notify pgrst, 'reload schema';
