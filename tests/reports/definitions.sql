-- The cleaning rules and reports, written a second time: from the definitions, on the source tables, in DuckDB's SQL.
-- Sources: users, posts (instants as µs since the epoch, `_invalid` as the transports say it); variables snapshot_at, as_of (µs).

create or replace macro trimmed(x) as regexp_replace(x,
  '^[\t-\r \x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}]+|[\t-\r \x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}]+$', '', 'g');
create or replace macro composed(x) as nullif(trimmed(nfc_normalize(regexp_replace(x,
  '[\x{200b}\x{2060}\x{feff}\x{202a}-\x{202e}\x{2066}-\x{2069}]', '', 'g'))), '');
create or replace macro newlines(x) as replace(replace(x, chr(13) || chr(10), chr(10)), chr(13), chr(10));
create or replace macro line(x) as composed(regexp_replace(translate(newlines(x), chr(9) || chr(10), '  '), '\p{Cc}', '', 'g'));
create or replace macro block(x) as composed(regexp_replace(newlines(x), '[\x00-\x08\x0b-\x1f\x7f-\x{9f}]', '', 'g'));
create or replace macro low(x) as translate(x, 'ABCDEFGHIJKLMNOPQRSTUVWXYZ', 'abcdefghijklmnopqrstuvwxyz');
create or replace macro is_email(x) as length(x) <= 254
  and not regexp_matches(x, '[\t-\r \x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}]')
  and len(string_split(x, '@')) = 2 and string_split(x, '@')[1] <> ''
  and len(string_split(string_split(x, '@')[2], '.')) >= 2
  and not list_contains(string_split(string_split(x, '@')[2], '.'), '');
create or replace macro words(x) as coalesce(len(regexp_extract_all(x,
  '[^\t-\r \x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}]+')), 0);
create or replace macro day_of(us) as us // 86400000000;
create or replace macro month_of(us) as date_trunc('month', make_timestamp(us))::date;
create or replace macro span(earlier, later) as
  (year(later) - year(earlier)) * 12 + month(later) - month(earlier);

create or replace table u1 as select *, _invalid is null as valid, line(name) as n1, line(email) as e1, line(status) as s1,
  block(bio) as b1 from users;
create or replace table u2 as select *, low(e1) as e2 from u1;
create or replace table u3 as select *, case when is_email(e2) then e2 end as e3,
  case when low(s1) in ('active', 'inactive') then low(s1) else 'other' end as s2,
  valid and created_at is not null as has_created,
  coalesce(valid and created_at <= getvariable('snapshot_at') + 86400000000, false) as kept,
  case when updated_at >= created_at then updated_at else created_at end as up from u2;
create or replace table ku as
  select id, n1 as name, e3 as email, b1 as bio, s2 as status,
    case when e3 is not null and row_number() over same > 1 then first_value(id) over same end as duplicate_of,
    created_at, up as updated_at, created_at < getvariable('as_of') as in_scope
  from u3 where kept window same as (partition by e3 order by created_at, id);

create or replace table p1 as select p.*, p._invalid is null as valid, line(p.title) as t1, block(p.content) as c1,
  k.id is not null as has_author, k.created_at as signed_up, coalesce(k.in_scope, false) as author_in_scope
  from posts p left join ku k on k.id = p.user_id;
create or replace table p2 as select *, valid and created_at is not null as has_created,
  coalesce(valid and created_at <= getvariable('snapshot_at') + 86400000000, false) as in_time,
  case when updated_at >= created_at then updated_at else created_at end as up from p1;
create or replace table kp as select id, user_id, t1 as title, c1 as content, words(c1) as word_count,
  coalesce(length(c1), 0) as char_count, created_at < signed_up as is_before_signup, created_at, up as updated_at,
  created_at < getvariable('as_of') and author_in_scope as in_scope from p2 where in_time and has_author;

create or replace table su as select * from ku where in_scope;
create or replace table sp as select *, day_of(created_at) as day from kp where in_scope;
create or replace table per_author as select user_id, count(*) as posts, sum(word_count) as words, min(created_at) as first_at,
  max(created_at) as last_at from sp group by user_id;

create or replace table user_statistics as select getvariable('as_of') as as_of,
  (select count(*) from su) as total_users,
  (select count(*) from su where status = 'active') as active_users,
  (select count(*) from su where status = 'inactive') as inactive_users,
  (select count(*) from su where status = 'other') as other_users,
  (select count(duplicate_of) from su) as duplicate_accounts,
  (select count(*) from su where email is null) as users_without_email,
  (select count(*) from su where created_at >= getvariable('as_of') - 1 * 86400000000) as new_users_1d,
  (select count(*) from su where created_at >= getvariable('as_of') - 7 * 86400000000) as new_users_7d,
  (select count(*) from su where created_at >= getvariable('as_of') - 30 * 86400000000) as new_users_30d,
  (select count(distinct user_id) from sp) as posting_users,
  (select count(*) from sp) as total_posts,
  (select count(*) from sp where created_at >= getvariable('as_of') - 1 * 86400000000) as posts_1d,
  (select count(*) from sp where created_at >= getvariable('as_of') - 7 * 86400000000) as posts_7d,
  (select count(*) from sp where created_at >= getvariable('as_of') - 30 * 86400000000) as posts_30d,
  (select count(*) from sp) / nullif((select count(*) from su), 0)::double as posts_per_user_mean,
  (select quantile_cont(posts::double, 0.5) from per_author) as posts_per_author_median,
  (select quantile_cont(posts::double, 0.9) from per_author) as posts_per_author_p90,
  (select quantile_cont(posts::double, 0.99) from per_author) as posts_per_author_p99,
  (select max(posts) from per_author) as posts_per_author_max;

create or replace table days as
  with first as (select least((select min(day_of(created_at)) from su), (select min(day) from sp)) as day)
  select unnest(generate_series(first.day, day_of(getvariable('as_of') - 1))) as day from first where first.day is not null;
create or replace table daily_activity as
  select day as date, new_users, posts, authors, new_authors, words, authors_7d, authors_28d,
    authors / nullif(authors_28d, 0)::double as stickiness, total_users, total_posts
  from (select d.day,
    (select count(*) from su where day_of(created_at) = d.day) as new_users,
    (select count(*) from sp where sp.day = d.day) as posts,
    (select count(distinct user_id) from sp where sp.day = d.day) as authors,
    (select count(*) from per_author where day_of(first_at) = d.day) as new_authors,
    (select coalesce(sum(word_count), 0) from sp where sp.day = d.day) as words,
    (select count(distinct user_id) from sp where sp.day <= d.day and sp.day > d.day - 7) as authors_7d,
    (select count(distinct user_id) from sp where sp.day <= d.day and sp.day > d.day - 28) as authors_28d,
    (select count(*) from su where day_of(created_at) <= d.day) as total_users,
    (select count(*) from sp where sp.day <= d.day) as total_posts
  from days d) order by day;

create or replace table active_days as select distinct user_id, day from sp;
create or replace table gaps as select user_id, day,
  day - lag(day) over (partition by user_id order by day) as gap,
  day - row_number() over (partition by user_id order by day) as island from active_days;
create or replace table author_activity as
  select a.user_id, u.status, u.created_at as signed_up_at, a.posts as post_count, a.first_at as first_post_at,
    a.last_at as last_post_at, (select count(*) from active_days d where d.user_id = a.user_id) as active_days,
    (select max(n) from (select count(*) as n from gaps g where g.user_id = a.user_id group by island)) as longest_streak_days,
    (select quantile_cont(gap::double, 0.5) from gaps g where g.user_id = a.user_id) as median_gap_days,
    a.words, a.words / a.posts::double as words_per_post,
    (a.first_at - u.created_at) / 86400000000.0::double as days_to_first_post,
    (getvariable('as_of') - a.last_at) / 86400000000.0::double as days_since_last_post
  from per_author a join su u on u.id = a.user_id order by a.user_id;

create or replace table cohorts as select month_of(created_at) as cohort_month, count(*) as users from su group by all;
create or replace table active_months as select distinct month_of(u.created_at) as cohort_month, p.user_id,
  greatest(0, span(month_of(u.created_at), month_of(p.created_at))) as months_since from sp p join su u on u.id = p.user_id;
create or replace table signup_cohorts as
  select cohort_month, months_since, users, authors, authors / users::double as retention
  from (select c.*, m.months_since, (select count(*) from active_months a
      where a.cohort_month = c.cohort_month and a.months_since = m.months_since) as authors
    from cohorts c, lateral (select unnest(generate_series(0, span(c.cohort_month, month_of(getvariable('as_of') - 1))))
      as months_since) m)
  order by cohort_month, months_since;

create or replace table post_statistics as
  select month_of(created_at) as month, isodow(make_timestamp(created_at)) as weekday, hour(make_timestamp(created_at)) as hour,
    count(*) as posts, sum(word_count) as words, sum(word_count) / count(*)::double as words_mean,
    quantile_cont(word_count::double, 0.5) as words_median, quantile_cont(word_count::double, 0.9) as words_p90,
    count(*) filter (where title is null) as untitled_posts
  from sp group by all order by all;

create or replace table data_quality as
  select "table", rule, action, checked as rows_checked, affected as rows_affected,
    affected / nullif(checked, 0)::double as share
  from (
    select 1 as n, 'users' as "table", 'invalid_value' as rule, 'rejected' as action, count(*) as checked,
      count(*) filter (where not valid) as affected from u3
    union all select 2, 'users', 'clean_text', 'changed', count(*), count(*) filter (where name is distinct from n1
      or email is distinct from e1 or status is distinct from s1 or bio is distinct from b1) from u3 where valid
    union all select 3, 'users', 'lowercase_email', 'changed', count(*), count(*) filter (where e1 <> e2) from u3 where valid
    union all select 4, 'users', 'invalid_email', 'changed', count(*), count(*) filter (where e2 is distinct from e3)
      from u3 where valid
    union all select 5, 'users', 'normalise_status', 'changed', count(*), count(*) filter (where s1 is distinct from s2)
      from u3 where valid
    union all select 6, 'users', 'missing_created_at', 'rejected', count(*), count(*) filter (where not has_created)
      from u3 where valid
    union all select 7, 'users', 'created_in_future', 'rejected', count(*), count(*) filter (where not kept)
      from u3 where has_created
    union all select 8, 'users', 'updated_before_created', 'changed', count(*),
      count(*) filter (where updated_at is distinct from up) from u3 where kept
    union all select 9, 'users', 'duplicate_email', 'flagged', count(*), count(duplicate_of) from ku
    union all select 11, 'posts', 'invalid_value', 'rejected', count(*), count(*) filter (where not valid) from p2
    union all select 12, 'posts', 'clean_text', 'changed', count(*),
      count(*) filter (where title is distinct from t1 or content is distinct from c1) from p2 where valid
    union all select 13, 'posts', 'missing_created_at', 'rejected', count(*), count(*) filter (where not has_created)
      from p2 where valid
    union all select 14, 'posts', 'created_in_future', 'rejected', count(*), count(*) filter (where not in_time)
      from p2 where has_created
    union all select 15, 'posts', 'orphan', 'rejected', count(*), count(*) filter (where not has_author) from p2 where in_time
    union all select 16, 'posts', 'updated_before_created', 'changed', count(*),
      count(*) filter (where updated_at is distinct from up) from p2 where in_time and has_author
    union all select 17, 'posts', 'before_signup', 'flagged', count(*), count(*) filter (where is_before_signup) from kp)
  order by n;

create or replace table clean_users as select id, name, email, bio, status, duplicate_of, created_at, updated_at,
  md5(concat_ws(chr(31), id, coalesce(name, chr(30)), coalesce(email, chr(30)), coalesce(bio, chr(30)), status,
    coalesce(duplicate_of, chr(30)), created_at, updated_at)) as row_hash from ku order by id;
create or replace table clean_posts as select * exclude (in_scope),
  md5(concat_ws(chr(31), id, user_id, coalesce(title, chr(30)), coalesce(content, chr(30)), word_count, char_count,
    is_before_signup, created_at, updated_at)) as row_hash from kp order by id;
