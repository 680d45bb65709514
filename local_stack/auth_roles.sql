-- Auth's own role, which calls the hooks that a project chooses. `lite` is Auth here; it has the role's rights and cannot
-- become it, so neither can a token.
create role supabase_auth_admin nologin noinherit;
select current_setting('server_version_num')::int < 160000 as inherits_by_role \gset
\if :inherits_by_role
grant supabase_auth_admin to lite;
\else
grant supabase_auth_admin to lite with inherit true, set false;
\endif
grant supabase_auth_admin to postgres with admin option;
