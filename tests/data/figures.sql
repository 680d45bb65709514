-- The figures of the cleaning rules, from the source tables alone: the definitions written down a second time.
-- :'snapshot_at' is the database's clock when reading started, :'as_of' the instant of the reports.
-- Answers rows of table|rule|checked|affected, and table|late|kept|out of scope.

create function pg_temp.cleaned(given text, is_line boolean) returns text immutable language sql as $$
  select nullif(regexp_replace(regexp_replace(
    normalize(regexp_replace(regexp_replace(
      case when is_line then translate(broken, E'\t\n', '  ') else broken end,
      case when is_line then E'[\u0001-\u001F\u007F-\u009F]' else E'[\u0001-\u0008\u000B-\u001F\u007F-\u009F]' end,
      '', 'g'), E'[\u200B\u2060\uFEFF\u202A-\u202E\u2066-\u2069]', '', 'g'), NFC),
    E'^[\u0009-\u000D\u0020\u0085\u00A0\u1680\u2000-\u200A\u2028\u2029\u202F\u205F\u3000]+', ''),
    E'[\u0009-\u000D\u0020\u0085\u00A0\u1680\u2000-\u200A\u2028\u2029\u202F\u205F\u3000]+$', ''), '')
  from (select regexp_replace(given, E'\r\n?', E'\n', 'g') as broken) as lines
$$;

create function pg_temp.holdable(instant timestamptz) returns boolean immutable language sql as $$
  select instant is null or instant >= '1970-01-01 00:00:00+00' and instant < '10000-01-01 00:00:00+00'
$$;

create function pg_temp.ascii_lower(given text) returns text immutable language sql as $$
  select translate(given, 'ABCDEFGHIJKLMNOPQRSTUVWXYZ', 'abcdefghijklmnopqrstuvwxyz')
$$;

create function pg_temp.is_email(given text) returns boolean immutable language sql as $$
  select given !~ E'[\u0009-\u000D\u0020\u0085\u00A0\u1680\u2000-\u200A\u2028\u2029\u202F\u205F\u3000]'
    and given ~ '^[^@]+@[^@.]+([.][^@.]+)+$' and length(given) <= 254
$$;

create temp table u as
  select *, not (pg_temp.holdable(created_at) and pg_temp.holdable(updated_at)) as invalid,
    pg_temp.cleaned(name, true) as name_1, pg_temp.cleaned(email, true) as email_1,
    pg_temp.cleaned(status, true) as status_1, pg_temp.cleaned(bio, false) as bio_1,
    null::text as email_2, null::text as email_3, null::text as status_2, false as kept, false as again
  from public.users;
update u set email_2 = pg_temp.ascii_lower(email_1);
update u set email_3 = case when pg_temp.is_email(email_2) then email_2 end,
  status_2 = case when pg_temp.ascii_lower(status_1) in ('active', 'inactive')
             then pg_temp.ascii_lower(status_1) else 'other' end,
  kept = not invalid and coalesce(created_at <= :'snapshot_at'::timestamptz + interval '24 hours', false);
update u set again = true from (
  select id, row_number() over (partition by email_3 order by created_at, id) as place from u where kept and email_3 is not null
) as ranked where ranked.id = u.id and place > 1;

create temp table p as
  select p.*, not (pg_temp.holdable(p.created_at) and pg_temp.holdable(p.updated_at)) as invalid,
    pg_temp.cleaned(title, true) as title_1, pg_temp.cleaned(content, false) as content_1,
    coalesce(u.kept, false) as has_author, u.created_at as signed_up_at,
    coalesce(p.created_at > :'snapshot_at'::timestamptz + interval '24 hours', false) as wrong_clock
  from public.posts p left join u on u.id = p.user_id;

select 'users', 'invalid_value', count(*), count(*) filter (where invalid) from u
union all select 'users', 'clean_text', count(*), count(*) filter (
  where (name, email, status, bio) is distinct from (name_1, email_1, status_1, bio_1)) from u where not invalid
union all select 'users', 'lowercase_email', count(*), count(*) filter (where email_1 <> email_2) from u where not invalid
union all select 'users', 'invalid_email', count(*), count(*) filter (
  where email_2 is distinct from email_3) from u where not invalid
union all select 'users', 'normalise_status', count(*), count(*) filter (
  where status_1 is distinct from status_2) from u where not invalid
union all select 'users', 'missing_created_at', count(*), count(*) filter (where created_at is null) from u where not invalid
union all select 'users', 'created_in_future', count(*), count(*) filter (
  where not kept) from u where not invalid and created_at is not null
union all select 'users', 'updated_before_created', count(*), count(*) filter (
  where updated_at is null or updated_at < created_at) from u where kept
union all select 'users', 'duplicate_email', count(*), count(*) filter (where again) from u where kept
union all select 'users', 'late', count(*), count(*) filter (where created_at >= :'as_of') from u where kept
union all select 'posts', 'invalid_value', count(*), count(*) filter (where invalid) from p
union all select 'posts', 'clean_text', count(*), count(*) filter (
  where (title, content) is distinct from (title_1, content_1)) from p where not invalid
union all select 'posts', 'missing_created_at', count(*), count(*) filter (where created_at is null) from p where not invalid
union all select 'posts', 'created_in_future', count(*), count(*) filter (
  where wrong_clock) from p where not invalid and created_at is not null
union all select 'posts', 'orphan', count(*), count(*) filter (
  where not has_author) from p where not invalid and created_at is not null and not wrong_clock
union all select 'posts', 'updated_before_created', count(*), count(*) filter (
  where updated_at is null or updated_at < created_at)
  from p where not invalid and created_at is not null and not wrong_clock and has_author
union all select 'posts', 'before_signup', count(*), count(*) filter (where created_at < signed_up_at)
  from p where not invalid and created_at is not null and not wrong_clock and has_author
union all select 'posts', 'late', count(*), count(*) filter (
  where created_at >= :'as_of' or signed_up_at >= :'as_of')
  from p where not invalid and created_at is not null and not wrong_clock and has_author;
