-- Whoever may call a function gives it values, never a part of a statement. A session behind the API is a member of all of
-- its roles, and could become another one by set_config. Statements are as they were.

set local lock_timeout = '5s';

drop function if exists public.etl_compare_buckets(text, jsonb, text, text, bigint[], text[], text[], integer);
drop function if exists public.etl_buckets_sql(text, text, text, text, integer);
drop function if exists public.etl_known_rejects_sql(text, text, text);

-- How keys from p_low to p_high are cut into at most 2^p_bits buckets: `bucket`, an expression over `key_`, and `low`,
-- `high`, the first and the last key of bucket b, expressions over `b`. The bits in which all of these keys agree are skipped.
create or replace function public.etl_buckets_sql(p_type text, p_low text, p_high text, p_bits integer)
returns table (bucket text, low text, high text)
language plpgsql immutable set search_path = '' as
$$
declare
  bits bit(128);
  same integer;
  bytes integer;
  shift integer := 0;
begin
  if p_type = 'bigint' then
    while (p_high::bigint >> shift)::numeric - (p_low::bigint >> shift) >= 2 ^ p_bits loop
      shift := shift + 1;
    end loop;
    return query select format('(key_::bigint >> %s)', shift), format('(b << %s)', shift),
                        format('((b << %s) | %s::bigint)', shift, (1::bigint << shift) - 1);
    return;
  end if;
  bits := public.etl_key_bits(p_low::uuid) # public.etl_key_bits(p_high::uuid);
  same := least(case position(B'1' in bits) when 0 then 128 else position(B'1' in bits) - 1 end, 128 - p_bits);
  bytes := (same % 8 + p_bits + 7) / 8;
  bits := public.etl_key_bits(p_low::uuid);
  bucket := (select string_agg(format('get_byte(uuid_send(key_), %s) * %s', same / 8 + i, 1 << (8 * (bytes - 1 - i))), ' + ') from generate_series(0, bytes - 1) i);
  bucket := case when same % 8 + p_bits < 8 * bytes then format('((%s) >> %s)', bucket, 8 * bytes - same % 8 - p_bits) else format('(%s)', bucket) end;
  bucket := case when same % 8 > 0 then format('(%s & %s)', bucket, (1 << p_bits) - 1) else bucket end;
  return query select
    bucket,
    format(ends.form, substring(bits for same), p_bits, repeat('0', 128 - same - p_bits)),
    format(ends.form, substring(bits for same), p_bits, repeat('1', 128 - same - p_bits))
  from (select 'encode(int8send(substring(B''%1$s'' || b::integer::bit(%2$s) || B''%3$s'' for 64)::bit(64)::bigint) '
            || '|| int8send(substring(B''%1$s'' || b::integer::bit(%2$s) || B''%3$s'' from 65)::bit(64)::bigint), ''hex'')::uuid' as form) ends;
end
$$;

-- Rejects of a table with what is known by them, key by key: they override cleaned rows. A part of the queries below.
create or replace function public.etl_known_rejects_within_sql(p_table text, p_after text, p_until text) returns text
language sql stable set search_path = '' as
$$
  select format(
    'select j.key::%2$s as key, j.fingerprint, j.rule = ''refused_by_database'' as refused,
            j.rule in (''refused_by_database'', ''created_in_future'') or j.fingerprint is null as retry
     from public.etl_reject_rows j where j."table" = %1$L and j.key <> '''' %3$s',
    p_table, s.key_type,
    case when p_after <> '' then format(' and j.key::%2$s > %1$L::%2$s', p_after, s.key_type) else '' end
    || case when p_until <> '' then format(' and j.key::%2$s <= %1$L::%2$s', p_until, s.key_type) else '' end)
  from public.etl_shape(public.etl_table('clean', p_table)) s
$$;

-- What is known of the rows of a source, as a query: key, fp, retry (tried every night whatever its fingerprint says) and
-- in_clean. Rejects override cleaned rows, key by key: a refused update leaves the old version there.
create or replace function public.etl_known_sql(p_table text, p_after text, p_until text) returns text
language plpgsql stable set search_path = '' as
$$
declare
  target constant regclass := public.etl_table('clean', p_table);
  shape record;
  bounds text;
begin
  select * into shape from public.etl_shape(target);
  bounds := case when p_after <> '' then ' and %1$s > %2$L::%4$s' else '' end || case when p_until <> '' then ' and %1$s <= %3$L::%4$s' else '' end;
  return format(
    'select coalesce(r.key, c.%1$s) as key, case when r.key is null then c.fingerprint else r.fingerprint end as fp,
            coalesce(r.retry, false) as retry, c.%1$s is not null and (r.key is null or r.refused) as in_clean,
            coalesce(r.refused, false) as refused
     from (select c.%1$s, c.fingerprint from %2$s c where true %5$s) c
     full join (
       select j.key::%4$s as key, j.fingerprint, j.rule = ''refused_by_database'' as refused,
              j.rule in (''refused_by_database'', ''created_in_future'') or j.fingerprint is null as retry
       from public.etl_reject_rows j where j."table" = %3$L and j.key <> '''' %6$s) r on r.key = c.%1$s',
    shape.key, target, p_table, shape.key_type, format(bounds, 'c.' || shape.key, p_after, p_until, shape.key_type),
    format(bounds, 'j.key::' || shape.key_type, p_after, p_until, shape.key_type));
end
$$;

-- The rows that differ in some of the buckets into which the keys from p_low to p_high are cut: [key, there, fingerprint] each,
-- p_most at most, and how many rows of either side were compared. Looked up by index, however many the planner expects.
create or replace function public.etl_compare_buckets(
  p_table text, p_source jsonb, p_after text, p_until text, p_low text, p_high text, p_bits integer, p_buckets bigint[], p_most integer)
returns jsonb
language plpgsql stable set search_path = '' set timezone = 'UTC' set datestyle = 'ISO' set extra_float_digits = 1
set work_mem = '64MB' set jit = off set enable_seqscan = off set enable_material = off set max_parallel_workers_per_gather = 0 as
$$
declare
  target constant regclass := public.etl_table('clean', p_table);
  source record;
  clean record;
  cut record;
  lows text[];
  highs text[];
  bounds text;
  answer jsonb;
begin
  select * into source from public.etl_source_shape(p_source);
  select * into clean from public.etl_shape(target);
  select * into cut from public.etl_buckets_sql(clean.key_type, p_low, p_high, p_bits);
  execute format('select array_agg((%s)::text), array_agg((%s)::text) from unnest($1) b', cut.low, cut.high)
  into lows, highs using p_buckets;
  bounds := case when p_after <> '' then ' and %1$s > %2$L::%4$s' else '' end || case when p_until <> '' then ' and %1$s <= %3$L::%4$s' else '' end;
  execute format(
    'with r as (select r.* from (%9$s) r where %10$s = any ($3)),
     x as (
       select y.key, count(y.source) as there, sum(y.fp) as fp, count(y.stored) as stored, sum(y.known) as known, bool_or(y.retry) as retry
       from (
         select %1$s::%2$s as key, 1 as source, %3$s as fp, null::integer as stored, null::bigint as known, false as retry
         from unnest($1::%2$s[], $2::%2$s[]) b(low, high) join %4$s s on %1$s >= b.low and %1$s <= b.high where true %5$s
         union all
         select c.%6$s, null, null, 1, c.fingerprint, c.fingerprint is null
         from unnest($1::%2$s[], $2::%2$s[]) b(low, high) join %7$s c on c.%6$s >= b.low and c.%6$s <= b.high
         where not exists (select from r where r.key = c.%6$s) %8$s
         union all
         select r.key, null, null, 1, r.fingerprint, r.retry from r offset ''0''::bigint) y
       group by y.key)
     select jsonb_build_object(
       ''changed'', (
         select coalesce(jsonb_agg(jsonb_build_array(d.key::text, d.there > 0, d.fp::text)), ''[]'')
         from (select * from x where x.there <> x.stored or x.retry or x.fp is distinct from x.known limit $4::bigint + 1) d),
       ''source_rows'', (select coalesce(sum(x.there), 0) from x), ''known_rows'', (select coalesce(sum(x.stored), 0) from x))',
    source.key, source.key_type, replace(source.fingerprint, '(select public.etl_seed_value())', '$5'), source.relation,
    format(bounds, source.key, p_after, p_until, source.key_type), clean.key, target,
    format(bounds, 'c.' || clean.key, p_after, p_until, source.key_type), public.etl_known_rejects_within_sql(p_table, p_after, p_until),
    replace(cut.bucket, 'key_', 'r.key'))
  using lows, highs, p_buckets, p_most, public.etl_seed_value()
  into answer;
  return answer;
end
$$;

-- What etl_find_changes answers, by buckets; null where that is not possible or does not pay: keys without an index, or of text;
-- more than an eighth of the rows in buckets that differ. A sum of fingerprints alone is not enough: PostgreSQL's hash of a row is
-- linear in the hashes of its values, so that two rows that exchange a value leave it as it was. Therefore both halves of each
-- fingerprint are hashed once more, and combined by xor.
create or replace function public.etl_find_few_changes(p_table text, p_source jsonb, p_after text, p_until text, p_most jsonb) returns jsonb
language plpgsql stable set search_path = '' set timezone = 'UTC' set datestyle = 'ISO' set extra_float_digits = 1
set work_mem = '64MB' set jit = off set enable_sort = off set max_parallel_workers_per_gather = 1 set enable_parallel_hash = off as
$$
declare
  target constant regclass := public.etl_table('clean', p_table);
  given constant jsonb := public.etl_json(p_source);
  most constant integer := (public.etl_json(p_most) #>> '{}')::integer;
  source record;
  clean record;
  bucket text;
  ends text[];
  bounds text;
  source_bounds text;
  clean_bounds text;
  rejects text;
  has_rejects boolean;
  expected real;
  bits integer;
  statement text;
  sums record;
  found jsonb;
begin
  select * into source from public.etl_source_shape(given);
  select * into clean from public.etl_shape(target);
  if source.key_type is distinct from clean.key_type or not public.etl_has_key_index(given, source.key_type) then
    return null;
  end if;
  bounds := case when p_after <> '' then ' and %1$s > %2$L::%4$s' else '' end || case when p_until <> '' then ' and %1$s <= %3$L::%4$s' else '' end;
  source_bounds := format(bounds, source.key, p_after, p_until, source.key_type);
  clean_bounds := format(bounds, 'c.' || clean.key, p_after, p_until, source.key_type);
  rejects := public.etl_known_rejects_within_sql(p_table, p_after, p_until);
  execute format('select exists (%s)', rejects) into has_rejects;
  execute format(
    'with e as (
       select x.key from (
         (select %1$s::%2$s as key from %3$s s where true %4$s order by %1$s limit 1) union all
         (select %1$s::%2$s from %3$s s where true %4$s order by %1$s desc limit 1) union all
         (select c.%5$s from %6$s c where true %7$s order by c.%5$s limit 1) union all
         (select c.%5$s from %6$s c where true %7$s order by c.%5$s desc limit 1)) x
       union all select r.key from (%8$s) r)
     select array[(select e.key::text from e order by e.key limit 1), (select e.key::text from e order by e.key desc limit 1)]',
    source.key, source.key_type, source.relation, source_bounds, clean.key, target,
    clean_bounds, rejects)
  into ends;
  if ends[1] is null then
    return null;
  end if;
  -- Some 16 rows each; at most 2^17, of some 150 bytes in memory, by each process.
  select case when bounds = '' then max(r.reltuples) else least(max(r.reltuples), 1000000) end into expected
  from pg_catalog.pg_class r where r.oid in (source.relation::regclass, target);
  bits := least(17, greatest(4, ceil(log(2, greatest(case when expected < 0 then 2000000 else expected end, 16)::numeric / 16))));
  select c.bucket into bucket from public.etl_buckets_sql(clean.key_type, ends[1], ends[2], bits) c;
  statement := format(
    'select sum(t.ns) as source_rows, coalesce(sum(t.sh), 0) as source_high, coalesce(sum(t.sl), 0) as source_low, sum(t.nk) as stored_rows,
            coalesce(sum(t.kh), 0) as known_high, coalesce(sum(t.kl), 0) as known_low, sum(t.kf) as known_sums,
            sum(t.nr) as known_rows, sum(t.nt) as target_rows, sum(t.ns) filter (where t.differs) as source_differ,
            sum(t.nk) filter (where t.differs) as stored_differ, array_agg(t.b) filter (where t.differs) as buckets,
            coalesce(sum(t.ns + t.nk) filter (where t.differs), 0) > 20000 + sum(t.ns + t.nk) / 8 as many
     from (
       select p.*, p.ns <> p.nk or p.sh <> p.kh or p.sl <> p.kl or p.sx <> p.kx or p.retry as differs from (
         select coalesce(s.b, k.b %10$s)::bigint as b, coalesce(s.n, 0) as ns, coalesce(s.high, 0) as sh, coalesce(s.low, 0) as sl,
                coalesce(s.mix, 0) as sx, coalesce(k.mix, 0) %18$s as kx,
                coalesce(k.n, 0) %11$s as nk, coalesce(k.high, 0) %12$s as kh, coalesce(k.low, 0) %13$s as kl, coalesce(k.n - k.without, 0) %17$s as kf,
                coalesce(k.n, 0) %14$s as nr, coalesce(k.n, 0) %15$s as nt, coalesce(k.without > 0, false) %16$s as retry
         from (
           select x.b, count(*) as n, sum((x.fp >> 32)::integer) as high, sum(((x.fp & 4294967295) - 2147483648)::integer) as low,
                  bit_xor(hashint8extended(x.fp, 1) # hashint4extended((x.fp >> 32)::integer, 2)) as mix
           from (select %1$s as b, %2$s as fp from %3$s s where true %4$s offset ''0''::bigint) x group by x.b) s
         full join (
           select x.b, count(*) as n, sum((x.fp >> 32)::integer) as high, sum(((x.fp & 4294967295) - 2147483648)::integer) as low,
                  bit_xor(hashint8extended(x.fp, 1) # hashint4extended((x.fp >> 32)::integer, 2)) as mix, count(*) - count(x.fp) as without
           from (select %5$s as b, c.fingerprint as fp from %6$s c where true %7$s %8$s offset ''0''::bigint) x group by x.b) k on k.b = s.b
         %9$s) p
       offset ''0''::bigint) t',
    replace(bucket, 'key_', source.key), replace(source.fingerprint, '(select public.etl_seed_value())', '$1'), source.relation,
    source_bounds, replace(bucket, 'key_', 'c.' || clean.key), target,
    clean_bounds,
    case when has_rejects then format('and not exists (select from (%s) r where r.key = c.%s)', rejects, clean.key) end,
    case when has_rejects then format(
      'full join (
         select x.b, count(*) as n, coalesce(sum((x.fingerprint >> 32)::integer), 0) as high,
                coalesce(sum(((x.fingerprint & 4294967295) - 2147483648)::integer), 0) as low, count(x.fingerprint) as sums,
                bit_xor(hashint8extended(x.fingerprint, 1) # hashint4extended((x.fingerprint >> 32)::integer, 2)) as mix,
                count(*) filter (where not x.refused) as known,
                count(*) filter (where x.refused and x.there) as target, bool_or(x.retry) as retry
         from (select %1$s as b, r.*, exists (select from %2$s c where c.%3$s = r.key) as there from (%4$s) r offset ''0''::bigint) x
         group by x.b) r on r.b = coalesce(s.b, k.b)',
      replace(bucket, 'key_', 'r.key'), target, clean.key, rejects) end,
    case when has_rejects then ', r.b' end, case when has_rejects then '+ coalesce(r.n, 0)' end,
    case when has_rejects then '+ coalesce(r.high, 0)' end, case when has_rejects then '+ coalesce(r.low, 0)' end,
    case when has_rejects then '+ coalesce(r.known, 0)' end,
    case when has_rejects then '+ coalesce(r.target, 0)' end, case when has_rejects then 'or coalesce(r.retry, false)' end,
    case when has_rejects then '+ coalesce(r.sums, 0)' end, case when has_rejects then '# coalesce(r.mix, 0)' end);
  loop
    begin
      execute statement into sums using public.etl_seed_value();
      exit;
    exception when insufficient_resources then
      -- What workers share does not fit into the shared memory of the server, or of its container: without them.
      if current_setting('max_parallel_workers_per_gather') = '0' then
        raise;
      end if;
      perform set_config('max_parallel_workers_per_gather', '0', true);
    end;
  end loop;
  if sums.many then
    return null;
  end if;
  if sums.buckets is not null then
    found := public.etl_compare_buckets(p_table, given, p_after, p_until, ends[1], ends[2], bits, sums.buckets, most);
    if (found ->> 'source_rows')::bigint <> sums.source_differ or (found ->> 'known_rows')::bigint <> sums.stored_differ then
      return null;
    end if;
  end if;
  return jsonb_build_object(
    'changed', coalesce(found -> 'changed', '[]'), 'more', coalesce(jsonb_array_length(found -> 'changed'), 0) > most,
    'source_rows', sums.source_rows, 'source_sum', (sums.source_high * 4294967296 + sums.source_low + sums.source_rows * 2147483648)::text,
    'known_rows', sums.known_rows, 'known_sum', (sums.known_high * 4294967296 + sums.known_low + sums.known_sums * 2147483648)::text,
    'target_rows', sums.target_rows);
end
$$;

do $$
declare
  f regprocedure;
begin
  for f in
    select p.oid from pg_catalog.pg_proc p
    where p.pronamespace = 'public'::regnamespace
      and p.proname in ('etl_buckets_sql', 'etl_known_rejects_within_sql', 'etl_compare_buckets')
  loop
    execute format('revoke all on function %s from public, anon, authenticated', f);
    execute format('grant execute on function %s to etl, service_role', f);
  end loop;
end
$$;

notify pgrst, 'reload schema';
