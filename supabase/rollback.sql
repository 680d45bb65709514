-- The way back: everything that the migrations made, but the bucket `reports` and its files (Storage deletes those: empty
-- and delete the bucket in the dashboard). The sources were only read; they lose a grant and a policy.
-- `python -m scripts.migrations rollback` runs this in one transaction.
do $$
begin
  if exists (
    select from pg_shdepend d join pg_database b on b.oid = d.dbid and b.datname = current_database()
    where d.refclassid = 'pg_authid'::regclass and d.refobjid = to_regrole('etl') and d.deptype = 'o'
  ) then
    raise exception 'the role etl owns something of your own, which would be dropped with it: reassign owned by etl to …';
  end if;
end
$$;

do $$
declare
  item record;
begin
  if to_regclass('storage.objects') is not null then
    begin
      drop policy if exists "analysts read reports" on storage.objects;
      drop policy if exists "analysts upload to reports" on storage.objects;
      drop policy if exists "operators delete exports of reports" on storage.objects;
    exception when insufficient_privilege then
      raise notice 'the policies of the bucket on storage.objects are left: this role may not drop them';
    end;
    begin
      drop policy if exists "etl sees its bucket" on storage.buckets;
      drop policy if exists "etl keeps the reports" on storage.objects;
    exception when insufficient_privilege then
      raise notice 'the policies of etl in storage are left: this role may not drop them';
    end;
  end if;
  for item in
    select p.polname, p.polrelid::regclass as relation from pg_policy p join pg_class c on c.oid = p.polrelid
    where p.polname = 'etl_reads' and p.polroles = array[to_regrole('etl')::oid] and pg_has_role(c.relowner, 'usage')
  loop
    execute format('drop policy %I on %s', item.polname, item.relation);
  end loop;
end
$$;

drop view if exists public.etl_rejects, public.nightly_runs;

-- The cleaned tables and the aggregates carry the names that the contracts gave them.
do $$
declare
  relation regclass;
begin
  if to_regproc('public.etl_tables') is not null then
    for relation in execute 'select t.relation from public.etl_tables() t' loop
      execute format('drop table %s', relation);
    end loop;
  end if;
  -- The histories of reports that the contracts name no more; as all of ours they have this policy, and a comment on each column.
  for relation in
    select c.oid::regclass from pg_class c join pg_policy p on p.polrelid = c.oid and p.polname = 'etl_all'
    where c.relnamespace = 'public'::regnamespace and c.relkind = 'r' and not starts_with(c.relname, 'etl_')
      and p.polroles = array[to_regrole('etl')::oid] and obj_description(c.oid, 'pg_class') is not null
      and not exists (
        select from pg_attribute a where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
          and col_description(a.attrelid, a.attnum) is null)
  loop
    execute format('drop table %s', relation);
  end loop;
end
$$;

do $$
declare
  f regprocedure;
begin
  for f in
    select p.oid from pg_proc p
    where p.pronamespace = 'public'::regnamespace
      and p.proname in (
        'etl_tables', 'etl_table', 'etl_json', 'etl_run_json', 'etl_current', 'etl_require_lease', 'etl_start', 'etl_resumable',
        'etl_as_of', 'etl_begin', 'etl_beat', 'etl_stage', 'etl_finish', 'etl_history', 'etl_shape', 'etl_target_page',
        'etl_rejects_page', 'etl_upsert', 'etl_write', 'etl_write_staged', 'etl_delete', 'etl_write_rejects', 'etl_delete_rejects', 'etl_put',
        'etl_commit', 'etl_put_refused', 'etl_restore', 'etl_relations_behind', 'etl_row_filters', 'etl_key_state',
        'etl_estimated_rows', 'etl_preflight', 'etl_view_functions', 'etl_sample_keys', 'etl_doctor', 'etl_own_tables', 'etl_lacking', 'etl_release', 'etl_note_flow_run',
        'etl_open_to_readers', 'etl_make_indexes', 'nightly_users', 'nightly_posts', 'nightly_user_counts', 'nightly_relation', 'nightly_columns',
        'etl_replace', 'etl_held_by', 'etl_wait', 'etl_estimate',
        'etl_access_token', 'etl_identity', 'etl_changes',
        'etl_seed_value', 'etl_seed_id', 'etl_base_run', 'etl_distrust_base', 'etl_source_shape', 'etl_fingerprint_sql', 'etl_rows',
        'etl_rows_by_key', 'etl_known_sql', 'etl_find_changes_sql', 'etl_find_changes', 'etl_key_bits', 'etl_buckets_sql',
        'etl_has_key_index', 'etl_known_rejects_sql', 'etl_known_rejects_within_sql', 'etl_compare_buckets', 'etl_find_few_changes', 'etl_scans_by_index', 'etl_waits', 'etl_stored_files', 'etl_sample_known', 'etl_known_sum', 'etl_known',
        'etl_dependents', 'etl_orphans_of', 'etl_months_of', 'etl_rule_sums', 'etl_values', 'etl_mark_wrong')
  loop
    execute format('drop function %s', f);
  end loop;
end
$$;

drop table if exists public.etl_batches, public.etl_reject_rows, public.etl_waiting, public.etl_runs, public.etl_base, public.etl_seed;
drop function if exists public.etl_move_base();
-- The books of the pipeline, and their predecessor. The history of the Supabase CLI is the product's, and stays.
drop table if exists public.etl_migrations;
drop table if exists supabase_migrations.etl_applied;

-- Its rights in this database go; the role is the whole server's and stays while another database needs it.
do $$
begin
  if exists (select from pg_roles where rolname = 'etl') then
    drop owned by etl;
  end if;
end
$$;
do $$
begin
  drop role if exists etl;
exception when dependent_objects_still_exist or insufficient_privilege then
  raise notice 'the role etl is left: another database needs it, or it is another role''s to drop';
end
$$;

notify pgrst, 'reload schema';
