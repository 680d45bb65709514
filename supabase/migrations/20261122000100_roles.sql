-- The role that the pipeline takes on a Postgres connection. It can read the two sources and write the pipeline's own
-- tables, no more. It cannot log in: the owner's connection takes it with `set role etl`.
do $$
begin
  if not exists (select from pg_roles where rolname = 'etl') then
    create role etl nologin noinherit;
  end if;
end
$$;

-- The sources must be seen whole. Where this role may not hand out BYPASSRLS (PostgreSQL 15 asks for a superuser), the
-- next migration makes a policy on each source instead.
do $$
begin
  alter role etl bypassrls;
exception when insufficient_privilege then
  raise notice 'etl gets no BYPASSRLS here; a policy on each source table takes its place';
end
$$;

-- From PostgreSQL 16 on, making a role does not include the right to become it.
do $$
begin
  execute format('grant etl to %I', current_user);
exception when insufficient_privilege then
  raise notice 'membership in etl was not granted to %: it is not this role''s to give', current_user;
end
$$;

-- Staging is a temporary table.
do $$
begin
  execute format('grant temporary on database %I to etl', current_database());
exception when insufficient_privilege then
  raise notice 'temporary tables are left as they are for etl';
end
$$;

grant usage on schema public to etl;
