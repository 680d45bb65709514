-- Auth's own role, which calls the hooks that a project chooses. `lite` is Auth here; it has the role's rights and cannot
-- become it, so neither can a token.
create role supabase_auth_admin nologin noinherit;
grant supabase_auth_admin to lite with inherit true, set false;
grant supabase_auth_admin to postgres with admin option;
