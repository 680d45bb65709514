-- What the pipeline needs of a cleaned table beside its columns, in one place: a table that a later migration makes, or a
-- column that it makes again, has it as well. `make migration` ends its files with a call of this function.

set local lock_timeout = '5s';
set local maintenance_work_mem = '128MB';

-- Makes what is missing, and returns the names of it; where nothing is, the catalog is read and nothing is locked.
-- Indexes: for the look-ups of what depends on a changed row, where the contract has the column; and of keys and
-- fingerprints, for each table. Autovacuum: an index that is scanned alone needs pages that vacuum knows to be visible to
-- all, so it comes when 3 rows in 1,000 changed. What somebody set for a table stays as it is.
create or replace function public.etl_make_indexes() returns jsonb
language plpgsql set search_path = '' as
$$
declare
  item record;
  made jsonb := '[]';
begin
  for item in
    with wanted as (
      select t.relation, w.name, format('(%1$I) where %1$I is not null', w.column_name) as definition, w.column_name
      from public.etl_tables() t
      join (values ('posts', 'user_id', 'etl_clean_posts_user_id'), ('users', 'duplicate_of', 'etl_clean_users_duplicate_of'),
                   ('users', 'email', 'etl_clean_users_email')) w (table_name, column_name, name)
        on w.table_name = t.name
      where t.kind = 'clean'
      union all
      select t.relation, 'etl_' || t.name || '_fingerprints', format('(%s) include (fingerprint)', s.key), 'fingerprint'
      from public.etl_tables() t cross join lateral public.etl_shape(t.relation) s
      where t.kind = 'clean'
    )
    select w.name, format('create index if not exists %I on %s %s', w.name, w.relation, w.definition) as statement
    from wanted w
    join pg_catalog.pg_attribute a on a.attrelid = w.relation and a.attname = w.column_name and not a.attisdropped
    where not exists (
      select from pg_catalog.pg_index i join pg_catalog.pg_class c on c.oid = i.indexrelid
      where i.indrelid = w.relation and c.relname = w.name::name)
    union all
    select o.name, format('alter table %s set (%s = 0.003)', t.relation, o.name)
    from public.etl_tables() t
    join pg_catalog.pg_class c on c.oid = t.relation
    cross join (values ('autovacuum_vacuum_scale_factor'), ('autovacuum_vacuum_insert_scale_factor')) o (name)
    where t.kind = 'clean'
      and not exists (select from unnest(c.reloptions) r (setting) where starts_with(r.setting, o.name || '='))
  loop
    execute item.statement;
    made := made || to_jsonb(item.name);
  end loop;
  return made;
end
$$;
revoke all on function public.etl_make_indexes() from public, anon, authenticated, service_role, etl;
select public.etl_make_indexes();
