-- Generated from tasks/contracts.py by `python -m scripts.migrations render`. Edit the contracts, not this file.
-- It brings any earlier state of these tables to the contracts': it can run again and again.

create table if not exists "public"."clean_users" (
  "id" uuid not null,
  "name" text,
  "email" text,
  "bio" text,
  "status" text not null,
  "duplicate_of" uuid,
  "created_at" timestamptz not null,
  "updated_at" timestamptz not null,
  "row_hash" text not null,
  primary key ("id")
);
alter table "public"."clean_users" add column if not exists "id" uuid;
alter table "public"."clean_users" add column if not exists "name" text;
alter table "public"."clean_users" add column if not exists "email" text;
alter table "public"."clean_users" add column if not exists "bio" text;
alter table "public"."clean_users" add column if not exists "status" text;
alter table "public"."clean_users" add column if not exists "duplicate_of" uuid;
alter table "public"."clean_users" add column if not exists "created_at" timestamptz;
alter table "public"."clean_users" add column if not exists "updated_at" timestamptz;
alter table "public"."clean_users" add column if not exists "row_hash" text;
comment on table "public"."clean_users" is 'People with an account, one row each, after cleaning.';
comment on column "public"."clean_users"."id" is 'The user''s key at the source.';
comment on column "public"."clean_users"."name" is 'Display name.';
comment on column "public"."clean_users"."email" is 'E-mail address in lower case; null when it could not be one.';
comment on column "public"."clean_users"."bio" is 'What users say of themselves.';
comment on column "public"."clean_users"."status" is '`active`, `inactive`, or `other` for anything else.';
comment on column "public"."clean_users"."duplicate_of" is 'The first user with the same e-mail (earliest created_at, then smallest id); null when there is none.';
comment on column "public"."clean_users"."created_at" is 'When the account was made. [UTC]';
comment on column "public"."clean_users"."updated_at" is 'When the row was last changed, never before created_at. [UTC]';
comment on column "public"."clean_users"."row_hash" is 'md5 over the other columns in this order, as text, joined by U+001F, null as U+001E, instants as microseconds.';
alter table "public"."clean_users" enable row level security;
revoke all on "public"."clean_users" from public, anon, authenticated;
grant select, insert, update, delete on "public"."clean_users" to etl, service_role;
drop policy if exists etl_all on "public"."clean_users";
create policy etl_all on "public"."clean_users" to etl using (true) with check (true);

create table if not exists "public"."clean_posts" (
  "id" uuid not null,
  "user_id" uuid not null,
  "title" text,
  "content" text,
  "word_count" bigint not null,
  "char_count" bigint not null,
  "is_before_signup" boolean not null,
  "created_at" timestamptz not null,
  "updated_at" timestamptz not null,
  "row_hash" text not null,
  primary key ("id")
);
alter table "public"."clean_posts" add column if not exists "id" uuid;
alter table "public"."clean_posts" add column if not exists "user_id" uuid;
alter table "public"."clean_posts" add column if not exists "title" text;
alter table "public"."clean_posts" add column if not exists "content" text;
alter table "public"."clean_posts" add column if not exists "word_count" bigint;
alter table "public"."clean_posts" add column if not exists "char_count" bigint;
alter table "public"."clean_posts" add column if not exists "is_before_signup" boolean;
alter table "public"."clean_posts" add column if not exists "created_at" timestamptz;
alter table "public"."clean_posts" add column if not exists "updated_at" timestamptz;
alter table "public"."clean_posts" add column if not exists "row_hash" text;
comment on table "public"."clean_posts" is 'What users posted, one row a post, after cleaning.';
comment on column "public"."clean_posts"."id" is 'The post''s key at the source.';
comment on column "public"."clean_posts"."user_id" is 'The author, a user that was kept.';
comment on column "public"."clean_posts"."title" is 'Title.';
comment on column "public"."clean_posts"."content" is 'The text of the post.';
comment on column "public"."clean_posts"."word_count" is 'Maximal runs of non-white-space in content; 0 for null. [words]';
comment on column "public"."clean_posts"."char_count" is 'Code points in content; 0 for null. [characters]';
comment on column "public"."clean_posts"."is_before_signup" is 'Whether the post is older than its author''s account.';
comment on column "public"."clean_posts"."created_at" is 'When the post was made. [UTC]';
comment on column "public"."clean_posts"."updated_at" is 'When the row was last changed, never before created_at. [UTC]';
comment on column "public"."clean_posts"."row_hash" is 'md5 over the other columns in this order, as text, joined by U+001F, null as U+001E, instants as microseconds.';
alter table "public"."clean_posts" enable row level security;
revoke all on "public"."clean_posts" from public, anon, authenticated;
grant select, insert, update, delete on "public"."clean_posts" to etl, service_role;
drop policy if exists etl_all on "public"."clean_posts";
create policy etl_all on "public"."clean_posts" to etl using (true) with check (true);

create table if not exists "public"."user_statistics" (
  "as_of" timestamptz not null,
  "total_users" bigint not null,
  "active_users" bigint not null,
  "inactive_users" bigint not null,
  "other_users" bigint not null,
  "duplicate_accounts" bigint not null,
  "users_without_email" bigint not null,
  "new_users_1d" bigint not null,
  "new_users_7d" bigint not null,
  "new_users_30d" bigint not null,
  "posting_users" bigint not null,
  "total_posts" bigint not null,
  "posts_1d" bigint not null,
  "posts_7d" bigint not null,
  "posts_30d" bigint not null,
  "posts_per_user_mean" double precision,
  "posts_per_author_median" double precision,
  "posts_per_author_p90" double precision,
  "posts_per_author_p99" double precision,
  "posts_per_author_max" bigint,
  primary key ("as_of")
);
alter table "public"."user_statistics" add column if not exists "as_of" timestamptz;
alter table "public"."user_statistics" add column if not exists "total_users" bigint;
alter table "public"."user_statistics" add column if not exists "active_users" bigint;
alter table "public"."user_statistics" add column if not exists "inactive_users" bigint;
alter table "public"."user_statistics" add column if not exists "other_users" bigint;
alter table "public"."user_statistics" add column if not exists "duplicate_accounts" bigint;
alter table "public"."user_statistics" add column if not exists "users_without_email" bigint;
alter table "public"."user_statistics" add column if not exists "new_users_1d" bigint;
alter table "public"."user_statistics" add column if not exists "new_users_7d" bigint;
alter table "public"."user_statistics" add column if not exists "new_users_30d" bigint;
alter table "public"."user_statistics" add column if not exists "posting_users" bigint;
alter table "public"."user_statistics" add column if not exists "total_posts" bigint;
alter table "public"."user_statistics" add column if not exists "posts_1d" bigint;
alter table "public"."user_statistics" add column if not exists "posts_7d" bigint;
alter table "public"."user_statistics" add column if not exists "posts_30d" bigint;
alter table "public"."user_statistics" add column if not exists "posts_per_user_mean" double precision;
alter table "public"."user_statistics" add column if not exists "posts_per_author_median" double precision;
alter table "public"."user_statistics" add column if not exists "posts_per_author_p90" double precision;
alter table "public"."user_statistics" add column if not exists "posts_per_author_p99" double precision;
alter table "public"."user_statistics" add column if not exists "posts_per_author_max" bigint;
comment on table "public"."user_statistics" is 'The headline figures of users and posts in scope, one row a run.';
comment on column "public"."user_statistics"."as_of" is 'The instant that the figures speak of, exclusive. [UTC]';
comment on column "public"."user_statistics"."total_users" is 'Users created before as_of. [users]';
comment on column "public"."user_statistics"."active_users" is 'Of them, with status `active`. [users]';
comment on column "public"."user_statistics"."inactive_users" is 'Of them, with status `inactive`. [users]';
comment on column "public"."user_statistics"."other_users" is 'Of them, with any other status. [users]';
comment on column "public"."user_statistics"."duplicate_accounts" is 'Of them, with the e-mail of an earlier user. [users]';
comment on column "public"."user_statistics"."users_without_email" is 'Of them, without a usable e-mail. [users]';
comment on column "public"."user_statistics"."new_users_1d" is 'Signed up in the 24 hours before as_of. [users]';
comment on column "public"."user_statistics"."new_users_7d" is 'Signed up in the 7 × 24 hours before as_of. [users]';
comment on column "public"."user_statistics"."new_users_30d" is 'Signed up in the 30 × 24 hours before as_of. [users]';
comment on column "public"."user_statistics"."posting_users" is 'Users with at least one post. [users]';
comment on column "public"."user_statistics"."total_posts" is 'Posts created before as_of by users in scope. [posts]';
comment on column "public"."user_statistics"."posts_1d" is 'Posts of the 24 hours before as_of. [posts]';
comment on column "public"."user_statistics"."posts_7d" is 'Posts of the 7 × 24 hours before as_of. [posts]';
comment on column "public"."user_statistics"."posts_30d" is 'Posts of the 30 × 24 hours before as_of. [posts]';
comment on column "public"."user_statistics"."posts_per_user_mean" is 'total_posts / total_users; null without users. [posts per user]';
comment on column "public"."user_statistics"."posts_per_author_median" is 'Median posts of a posting user, interpolated. [posts per author]';
comment on column "public"."user_statistics"."posts_per_author_p90" is '90th percentile of the same. [posts per author]';
comment on column "public"."user_statistics"."posts_per_author_p99" is '99th percentile of the same. [posts per author]';
comment on column "public"."user_statistics"."posts_per_author_max" is 'Most posts of one user; null without posts. [posts per author]';
alter table "public"."user_statistics" enable row level security;
revoke all on "public"."user_statistics" from public, anon, authenticated;
grant select, insert, update, delete on "public"."user_statistics" to etl, service_role;
drop policy if exists etl_all on "public"."user_statistics";
create policy etl_all on "public"."user_statistics" to etl using (true) with check (true);

create table if not exists "public"."daily_activity" (
  "date" date not null,
  "new_users" bigint not null,
  "posts" bigint not null,
  "authors" bigint not null,
  "new_authors" bigint not null,
  "words" bigint not null,
  "authors_7d" bigint not null,
  "authors_28d" bigint not null,
  "stickiness" double precision,
  "total_users" bigint not null,
  "total_posts" bigint not null,
  primary key ("date")
);
alter table "public"."daily_activity" add column if not exists "date" date;
alter table "public"."daily_activity" add column if not exists "new_users" bigint;
alter table "public"."daily_activity" add column if not exists "posts" bigint;
alter table "public"."daily_activity" add column if not exists "authors" bigint;
alter table "public"."daily_activity" add column if not exists "new_authors" bigint;
alter table "public"."daily_activity" add column if not exists "words" bigint;
alter table "public"."daily_activity" add column if not exists "authors_7d" bigint;
alter table "public"."daily_activity" add column if not exists "authors_28d" bigint;
alter table "public"."daily_activity" add column if not exists "stickiness" double precision;
alter table "public"."daily_activity" add column if not exists "total_users" bigint;
alter table "public"."daily_activity" add column if not exists "total_posts" bigint;
comment on table "public"."daily_activity" is 'One row per day (UTC), without gaps, from the first user or post to as_of''s day.';
comment on column "public"."daily_activity"."date" is 'Calendar day in UTC. [day]';
comment on column "public"."daily_activity"."new_users" is 'Users who signed up on the day. [users]';
comment on column "public"."daily_activity"."posts" is 'Posts of the day. [posts]';
comment on column "public"."daily_activity"."authors" is 'Distinct users with a post on the day. [users]';
comment on column "public"."daily_activity"."new_authors" is 'Users whose first post ever was on the day. [users]';
comment on column "public"."daily_activity"."words" is 'Words in the day''s posts. [words]';
comment on column "public"."daily_activity"."authors_7d" is 'Distinct authors in the 7 days that end with this one. [users]';
comment on column "public"."daily_activity"."authors_28d" is 'Distinct authors in the 28 days that end with this one. [users]';
comment on column "public"."daily_activity"."stickiness" is 'authors / authors_28d; null when authors_28d is 0. [share]';
comment on column "public"."daily_activity"."total_users" is 'Users up to the end of the day. [users]';
comment on column "public"."daily_activity"."total_posts" is 'Posts up to the end of the day. [posts]';
alter table "public"."daily_activity" enable row level security;
revoke all on "public"."daily_activity" from public, anon, authenticated;
grant select, insert, update, delete on "public"."daily_activity" to etl, service_role;
drop policy if exists etl_all on "public"."daily_activity";
create policy etl_all on "public"."daily_activity" to etl using (true) with check (true);

create temporary table wanted (
  relation regclass, name text, type text, required boolean, is_key boolean, cleaned boolean
);
insert into pg_temp.wanted values
  ('"public"."clean_users"', 'id', 'uuid', true, true, true),
  ('"public"."clean_users"', 'name', 'text', false, false, true),
  ('"public"."clean_users"', 'email', 'text', false, false, true),
  ('"public"."clean_users"', 'bio', 'text', false, false, true),
  ('"public"."clean_users"', 'status', 'text', true, false, true),
  ('"public"."clean_users"', 'duplicate_of', 'uuid', false, false, true),
  ('"public"."clean_users"', 'created_at', 'timestamp with time zone', true, false, true),
  ('"public"."clean_users"', 'updated_at', 'timestamp with time zone', true, false, true),
  ('"public"."clean_users"', 'row_hash', 'text', true, false, true),
  ('"public"."clean_posts"', 'id', 'uuid', true, true, true),
  ('"public"."clean_posts"', 'user_id', 'uuid', true, false, true),
  ('"public"."clean_posts"', 'title', 'text', false, false, true),
  ('"public"."clean_posts"', 'content', 'text', false, false, true),
  ('"public"."clean_posts"', 'word_count', 'bigint', true, false, true),
  ('"public"."clean_posts"', 'char_count', 'bigint', true, false, true),
  ('"public"."clean_posts"', 'is_before_signup', 'boolean', true, false, true),
  ('"public"."clean_posts"', 'created_at', 'timestamp with time zone', true, false, true),
  ('"public"."clean_posts"', 'updated_at', 'timestamp with time zone', true, false, true),
  ('"public"."clean_posts"', 'row_hash', 'text', true, false, true),
  ('"public"."user_statistics"', 'as_of', 'timestamp with time zone', true, true, false),
  ('"public"."user_statistics"', 'total_users', 'bigint', true, false, false),
  ('"public"."user_statistics"', 'active_users', 'bigint', true, false, false),
  ('"public"."user_statistics"', 'inactive_users', 'bigint', true, false, false),
  ('"public"."user_statistics"', 'other_users', 'bigint', true, false, false),
  ('"public"."user_statistics"', 'duplicate_accounts', 'bigint', true, false, false),
  ('"public"."user_statistics"', 'users_without_email', 'bigint', true, false, false),
  ('"public"."user_statistics"', 'new_users_1d', 'bigint', true, false, false),
  ('"public"."user_statistics"', 'new_users_7d', 'bigint', true, false, false),
  ('"public"."user_statistics"', 'new_users_30d', 'bigint', true, false, false),
  ('"public"."user_statistics"', 'posting_users', 'bigint', true, false, false),
  ('"public"."user_statistics"', 'total_posts', 'bigint', true, false, false),
  ('"public"."user_statistics"', 'posts_1d', 'bigint', true, false, false),
  ('"public"."user_statistics"', 'posts_7d', 'bigint', true, false, false),
  ('"public"."user_statistics"', 'posts_30d', 'bigint', true, false, false),
  ('"public"."user_statistics"', 'posts_per_user_mean', 'double precision', false, false, false),
  ('"public"."user_statistics"', 'posts_per_author_median', 'double precision', false, false, false),
  ('"public"."user_statistics"', 'posts_per_author_p90', 'double precision', false, false, false),
  ('"public"."user_statistics"', 'posts_per_author_p99', 'double precision', false, false, false),
  ('"public"."user_statistics"', 'posts_per_author_max', 'bigint', false, false, false),
  ('"public"."daily_activity"', 'date', 'date', true, true, false),
  ('"public"."daily_activity"', 'new_users', 'bigint', true, false, false),
  ('"public"."daily_activity"', 'posts', 'bigint', true, false, false),
  ('"public"."daily_activity"', 'authors', 'bigint', true, false, false),
  ('"public"."daily_activity"', 'new_authors', 'bigint', true, false, false),
  ('"public"."daily_activity"', 'words', 'bigint', true, false, false),
  ('"public"."daily_activity"', 'authors_7d', 'bigint', true, false, false),
  ('"public"."daily_activity"', 'authors_28d', 'bigint', true, false, false),
  ('"public"."daily_activity"', 'stickiness', 'double precision', false, false, false),
  ('"public"."daily_activity"', 'total_users', 'bigint', true, false, false),
  ('"public"."daily_activity"', 'total_posts', 'bigint', true, false, false);
-- Brings each table to what pg_temp.wanted asks for. Columns come, change their null rule or go; a key of another kind
-- cannot be carried over.
do $$
declare
  item record;
begin
  for item in
    select w.relation, w.name, w.type as wanted, format_type(a.atttypid, a.atttypmod) as found
    from pg_temp.wanted w join pg_attribute a on a.attrelid = w.relation and a.attname = w.name and not a.attisdropped
    where format_type(a.atttypid, a.atttypmod) <> w.type
  loop
    raise exception 'column % of % is %, the contracts say %: drop the table, the next run fills it again',
      item.name, item.relation, item.found, item.wanted;
  end loop;
  for item in
    select a.attrelid::regclass as relation, a.attname, k.cleaned
    from (select relation, bool_or(cleaned) as cleaned from pg_temp.wanted group by relation) k
    join pg_attribute a on a.attrelid = k.relation and a.attnum > 0 and not a.attisdropped
    where not exists (select from pg_temp.wanted w where w.relation = k.relation and w.name = a.attname)
  loop
    -- What the contracts no longer name does not stay in a cleaned table; the history of an aggregate does.
    execute format('alter table %s %s', item.relation,
                   format(case when item.cleaned then 'drop column %I' else 'alter column %I drop not null' end, item.attname));
  end loop;
  for item in
    select w.relation, w.name, w.required, a.attnotnull from pg_temp.wanted w
    join pg_attribute a on a.attrelid = w.relation and a.attname = w.name
    where w.required <> a.attnotnull and not w.is_key
  loop
    begin
      execute format('alter table %s alter column %I %s not null', item.relation, item.name,
                     case when item.required then 'set' else 'drop' end);
    exception when not_null_violation then
      null;  -- rows from before the column came: the next run mends a cleaned table, a history keeps its gap
    end;
  end loop;
end
$$;
drop table pg_temp.wanted;

grant select on "public"."user_statistics" to authenticated;
drop policy if exists etl_analysts on "public"."user_statistics";
create policy etl_analysts on "public"."user_statistics" for select to authenticated
  using ((select nullif(current_setting('request.jwt.claims', true), '')::jsonb -> 'app_metadata' ->> 'etl_role') = 'analyst');

grant select on "public"."daily_activity" to authenticated;
drop policy if exists etl_analysts on "public"."daily_activity";
create policy etl_analysts on "public"."daily_activity" for select to authenticated
  using ((select nullif(current_setting('request.jwt.claims', true), '')::jsonb -> 'app_metadata' ->> 'etl_role') = 'analyst');

do $$
begin
  if to_regclass('"public"."users"') is null then
    return;
  end if;
  grant usage on schema "public" to etl;
  grant select on "public"."users" to etl;
  if not (select rolbypassrls from pg_roles where rolname = 'etl')
    and (select relkind in ('r', 'p') from pg_class where oid = '"public"."users"'::regclass)  -- views have no policies
  then
    drop policy if exists etl_reads on "public"."users";
    create policy etl_reads on "public"."users" for select to etl using (true);
  end if;
exception when insufficient_privilege then
  raise warning 'the owner of public.users has to grant etl the right to read it';
end
$$;

do $$
begin
  if to_regclass('"public"."posts"') is null then
    return;
  end if;
  grant usage on schema "public" to etl;
  grant select on "public"."posts" to etl;
  if not (select rolbypassrls from pg_roles where rolname = 'etl')
    and (select relkind in ('r', 'p') from pg_class where oid = '"public"."posts"'::regclass)  -- views have no policies
  then
    drop policy if exists etl_reads on "public"."posts";
    create policy etl_reads on "public"."posts" for select to etl using (true);
  end if;
exception when insufficient_privilege then
  raise warning 'the owner of public.posts has to grant etl the right to read it';
end
$$;

create or replace function public.etl_tables() returns table (kind text, name text, relation regclass)
language sql stable set search_path = '' as
$$ values
  ('clean', 'users', '"public"."clean_users"'::regclass),
  ('clean', 'posts', '"public"."clean_posts"'::regclass),
  ('aggregate', 'user_statistics', '"public"."user_statistics"'::regclass),
  ('aggregate', 'daily_activity', '"public"."daily_activity"'::regclass)
$$;

revoke all on function public.etl_tables() from public, anon, authenticated;
grant execute on function public.etl_tables() to etl, service_role;
