-- The roles of a Supabase project, with their rights. Runs once, as the superuser, in one transaction.
-- `postgres` owns the database and is no superuser, as on the hosted platform.
-- Before PostgreSQL 16 what is granted is inherited by all or by none of a role's grants.
select current_setting('server_version_num')::int < 160000 as inherits_by_role \gset
create role postgres login createrole createdb bypassrls replication password :'owner_password';
create role anon nologin noinherit;
create role authenticated nologin noinherit;
create role service_role nologin noinherit bypassrls;
create role authenticator login noinherit;
grant anon, authenticated, service_role to authenticator;
grant anon, authenticated, service_role, authenticator to postgres with admin option;
grant pg_monitor, pg_read_all_data, pg_signal_backend to postgres;

alter database postgres owner to postgres;
alter schema public owner to postgres;
create schema extensions authorization postgres;
grant usage on schema public, extensions to anon, authenticated, service_role;

-- On Supabase a fresh table in `public` was open through REST until 30 October 2026, and what was made before still is: a
-- migration has to revoke, so here too. https://supabase.com/changelog/45329-breaking-change-tables-not-exposed-to-data-and-graphql-api-automatically
alter default privileges for role postgres in schema public grant all on tables to anon, authenticated, service_role;
alter default privileges for role postgres in schema public grant all on sequences to anon, authenticated, service_role;
alter default privileges for role postgres in schema public grant all on functions to anon, authenticated, service_role;

-- The timeouts of the hosted platform. The API's own applies to service_role, which has none.
alter role anon set statement_timeout = '3s';
alter role authenticated set statement_timeout = '8s';
alter role authenticator set statement_timeout = '8s';

-- The API's login. Whatever is granted to `authenticator`, as on the hosted platform, it may become; it is never superuser,
-- so neither is a token that says `role: postgres`. It makes and owns the schemas `auth` and `storage`; the database's
-- owner may do there what it may (policies on storage.objects).
create role lite login noinherit password :'lite_password';
grant authenticator to lite;
-- What it may not read it would answer with "no such table" (404) instead of "no right" (401, 403).
\if :inherits_by_role
alter role lite inherit;
grant pg_read_all_data to lite;
\else
grant pg_read_all_data to lite with inherit true;
\endif
grant create on database postgres to lite;
grant lite to postgres;
alter role lite set statement_timeout = '8s';
