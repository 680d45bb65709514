"""A load leaves the server's disk alone: what it compares and counts fits the memory that it may take."""

from __future__ import annotations

import time

import pytest

from local_stack import Stack

STORED, STAGED = 1_400_000, 300_000
_STORE = """
insert into public.clean_users (id, bio, status, created_at, updated_at, row_hash, fingerprint, rule_mask)
select md5(n::text)::uuid, '', 'active', now(), now(), md5(n::text), n, 0 from generate_series(1, {stored}) n;
analyze public.clean_users
"""
# A few staged rows are stored with another fingerprint, and some with another hash. The planner has no statistics of
# the staged rows, and expects more of them where texts are long.
_LOAD = """
create temp table etl_stage_users as
select md5(n::text)::uuid as id, null::text as name, null::text as email, repeat('long ', 300) as bio,
       'active' as status, null::uuid as duplicate_of, now() as created_at, now() as updated_at,
       md5(case when n % 100 = 1 then 'other' else '' end || n::text) as row_hash, -n::bigint as fingerprint,
       0::bigint as rule_mask, n::bigint as _n
from (select generate_series({stored} - 999, {stored} - 1000 + {staged}) as n) x;
select etl_upsert('users', null, {staged}, 0)
"""
_WRITTEN = "select temp_bytes from pg_stat_database where datname = current_database()"


@pytest.mark.soak
def test_a_load_of_many_rows_writes_no_temporary_file(clean_stack: Stack) -> None:
    clean_stack.query(_STORE.format(stored=STORED))
    time.sleep(1)  # the counts of a session that has ended
    before = int(clean_stack.query(_WRITTEN))
    answer = clean_stack.query(_LOAD.format(stored=STORED, staged=STAGED))
    time.sleep(1)
    assert int(clean_stack.query(_WRITTEN)) == before
    assert answer == f'{{"refused": [], "updated": 10, "inserted": {STAGED - 1000}}}'
