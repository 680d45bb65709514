"""No text that a caller of our functions gives becomes a part of a statement: every function, every text in its values.

The session behind the API is a member of all of its roles: a statement of the caller's could become the service role.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg.pq import TransactionStatus

from local_stack import Stack
from tasks.contracts import POSTS
from tasks.source.fingerprint import source_request
from tests.sink.kit import empty, uuid

# Unquoted, a syntax error wherever it stands; quoted, it reads differently; as a format, an error of format().
RAW = """'"\\ $q$"""
HOSTILE = f"{RAW} %s %1$I $1 ;"
BEFORE, RUN, TOKEN = "20260130T000000Z-abc", "20260131T000000Z-abc", "11111111-1111-4111-8111-111111111111"
FACTS = {"transport": "rest", "as_of_mode": "now", "lease_seconds": 600, "code_version": "1", "started_by": "a test"}
_WHOLE = source_request(POSTS)
SOURCE = {**_WHOLE, "columns": [c for c in _WHOLE["columns"] if c["name"] in ("id", "content")]}
PLACE = {"schema": "public", "table": "posts", "key": "id", "columns": ["id", "content"]}
ROW = {
    "id": uuid(5), "user_id": uuid(1), "title": "t", "content": "one", "word_count": 1, "char_count": 3,
    "is_before_signup": False, "created_at": "2026-01-01Z", "updated_at": "2026-01-01Z", "row_hash": "h",
}  # fmt: skip
REJECT = {"table": "posts", "key": uuid(9), "rule": "orphan", "column": "user_id", "came": "x", "expected": "y"}
RULES = [{"name": "orphan", "bit": None}, {"name": "trimmed", "bit": 1}]

# A valid value of each parameter, by its name. A function whose call with these would fail has its own in CALLS.
VALUES: dict[str, Any] = {
    "event": {"claims": {"app_metadata": {"etl_role": "pipeline"}}}, "p_after": uuid(0), "p_aggregates": {},
    "p_alias": "p", "p_batch": "1", "p_began": "2026-01-31Z", "p_bits": 4, "p_bucket": "reports",
    "p_buckets": [0, 1, 2], "p_column": "user_id", "p_columns": ["title", "created_at"], "p_count": 1,
    "p_error": "none", "p_facts": FACTS,
    "p_figures": {"seconds": {"load": 1}, "bytes": {}, "counts": {"mode": "full"}}, "p_filter": {"limit": 3},
    "p_flow_run": "x", "p_high": uuid(6), "p_ids": [uuid(1)], "p_key": "id", "p_keys": [uuid(1), uuid(2)],
    "p_kind": "clean", "p_limit": 10, "p_low": uuid(0), "p_most": 100, "p_name": "posts", "p_over": "rest",
    "p_parts": 4, "p_prefix": "runs/", "p_refused": [{**REJECT, "rule_mask": 0, "in_file": {}}], "p_rows": [ROW],
    "p_rules": RULES, "p_run": RUN, "p_schema": "public", "p_seconds": 1, "p_source": SOURCE, "p_sources": [PLACE],
    "p_stage": "read", "p_status": "failed", "p_table": "posts", "p_tables": [PLACE], "p_target": BEFORE,
    "p_token": TOKEN, "p_type": "uuid", "p_until": uuid(8), "p_value": {"a": "b"}, "p_values": [uuid(1)],
    "p_whole": True,
}  # fmt: skip
CALLS: dict[str, dict[str, Any]] = {
    "etl_write_rejects": {"p_rows": [REJECT]},
    "etl_months_of": {"p_column": "created_at"},
    "etl_put": {"p_table": "daily_activity", "p_rows": []},
    "nightly_relation": {"p_query": {"table": "clean_posts"}},
    "nightly_user_counts": {"p_query": {"table": "clean_users"}},
    "nightly_users": {
        "p_query": {"table": "clean_users", "status": "active", "search": "a", "id": uuid(1), "limit": 5, "offset": 0}
    },
    "nightly_posts": {
        "p_query": {
            "table": "clean_posts", "user_id": uuid(1), "before_created_at": "2026-01-01Z", "before_id": uuid(1),
            "limit": 5,
        }
    },
}  # fmt: skip
RELATION = "public.clean_posts"
# Functions whose answer is a part of a statement, which others run: what makes it a whole one.
STATEMENTS = {
    "etl_known_sql": "{0}",
    "etl_known_rejects_within_sql": "{0}",
    "etl_find_changes_sql": "{0}",
    "etl_fingerprint_sql": "select {0} from public.posts s",
    "etl_source_shape": "select {1}, {3}, {4} from {0} s",
    "etl_shape": "select {1} from public.clean_posts s",
    "etl_buckets_sql": "select {0}, {1}, {2} from (select null::uuid as key_, 1::bigint as b) k",
    "nightly_columns": "select {0} from public.clean_posts p",
}
# Ours that a role of the API may call, with the names and types of their arguments.
_FUNCTIONS = """
select p.oid::regprocedure::text as signature, p.proname as name, p.proretset as many,
       coalesce((
         select json_agg(json_build_array(p.proargnames[i], format_type(p.proargtypes[i - 1], null)) order by i)
         from generate_series(1, p.pronargs) i), '[]') as arguments
from pg_proc p
where p.pronamespace = 'public'::regnamespace and p.proname ~ '^(etl|nightly)_' and p.prorettype <> 'trigger'::regtype
  and exists (select from unnest(array['anon', 'authenticated', 'service_role', 'etl']) r
              where has_function_privilege(r, p.oid, 'execute'))
order by 1"""
_ROWS = f"""
insert into public.users (id, name, created_at) values ('{uuid(1)}', 'Jane', '2025-01-01Z');
insert into public.posts (id, user_id, content, created_at)
select md5(n::text)::uuid, '{uuid(1)}', 'one', '2026-01-01Z' from generate_series(1, 60) n;
insert into public.clean_users (id, status, created_at, updated_at, row_hash)
values ('{uuid(1)}', 'active', '2025-01-01Z', '2025-01-01Z', 'h');
insert into public.clean_posts
  (id, user_id, word_count, char_count, is_before_signup, created_at, updated_at, row_hash, fingerprint)
select id, user_id, 1, 3, false, created_at, created_at, 'h', 0 from public.posts;
insert into public.etl_reject_rows ("table", id, key, rule, first_run)
select 'posts', id || E'\\x1forphan', id, 'orphan', 'x' from public.posts order by id limit 3;
create temp table etl_stage_posts on commit drop as select c.*, row_number() over () as _n from public.clean_posts c;
"""
_RUNS = (
    "select public.etl_start(%(before)s, %(token)s, %(facts)s)",
    "select public.etl_begin(%(before)s, %(token)s, '2026-01-30Z')",
    """select public.etl_commit(%(before)s, %(token)s, '{"refused": []}', '{}')""",
    "select public.etl_start(%(run)s, %(token)s, %(facts)s)",
)
Function = tuple[str, str, bool, list[tuple[str, str]]]


@pytest.fixture(scope="module")
def session(stack: Stack) -> Iterator[psycopg.Connection]:
    """A transaction with rows on both sides and a run that holds the lease; nothing of it stays."""
    empty(stack)
    with psycopg.connect(stack.db_url, prepare_threshold=None) as connection:
        connection.execute("truncate public.users, public.posts cascade")
        connection.execute(_ROWS)
        for statement in _RUNS:
            connection.execute(statement, {"before": BEFORE, "run": RUN, "token": TOKEN, "facts": json.dumps(FACTS)})
        yield connection
        connection.rollback()


def functions(session: psycopg.Connection) -> list[Function]:
    return list(session.execute(_FUNCTIONS).fetchall())


def variants(value: Any) -> Iterator[Any]:
    """The value with the hostile text behind one of its texts or numbers, or in a key of an object, each in turn."""
    if isinstance(value, list):
        for n, item in enumerate(value):
            yield from ([*value[:n], other, *value[n + 1 :]] for other in variants(item))
    elif isinstance(value, dict):
        for key, item in value.items():
            yield {**value, key + HOSTILE: item}
            yield from ({**value, key: other} for other in variants(item))
    else:
        yield f"{'' if value is None else value}{HOSTILE}"


def call(session: psycopg.Connection, function: Function, values: dict[str, Any]) -> psycopg.Error | None:
    """What a call raises, or the statement of which its answer is a part; nothing of it stays."""
    _, name, many, arguments = function
    casts = {"oid": "regclass::oid"}
    given = ", ".join(f"{argument} => %s::{casts.get(kind, kind)}" for argument, kind in arguments)
    sent = [json.dumps(values[a]) if k in ("json", "jsonb") else values[a] for a, k in arguments]
    session.execute("savepoint call")
    try:
        rows = session.execute(f"select {'* from' if many else ''} public.{name}({given})", sent)
        answer = rows.fetchone()
        if name in STATEMENTS and answer is not None and None not in answer:
            statement = f"select 1 from ({STATEMENTS[name].format(*answer)}) x limit 0"
            session.execute("select query_to_xml(%s, true, false, '')", [statement])
    except psycopg.Error as error:
        return error
    finally:
        session.execute("rollback to savepoint call")
    return None


def is_opening(error: psycopg.Error | None) -> bool:
    """Whether the hostile text reached the parser of statements, or was a format itself."""
    if error is None:
        return False
    raw = error.sqlstate == "42601" and RAW in (error.diag.internal_query or "")
    return raw or "format()" in str(error)


def values_of(function: Function) -> dict[str, Any]:
    """Valid values for a call. KeyError: nobody has given one for a parameter of this name."""
    _, name, _, arguments = function
    known = {**VALUES, **CALLS.get(name, {})}
    kinds = {"oid": RELATION, "regclass": RELATION, "etl_runs": None, "uuid": uuid(1)}
    return {argument: kinds[kind] if kind in kinds else known[argument] for argument, kind in arguments}


def openings(session: psycopg.Connection, function: Function) -> Iterator[str]:
    """The parameters of a function, with the hostile value, whose text becomes a part of a statement."""
    values = values_of(function)
    for argument, kind in function[3]:
        if kind not in ("text", "text[]", "json", "jsonb"):
            continue
        for value in variants(values[argument]):
            error = call(session, function, {**values, argument: value})
            if is_opening(error):
                yield f"{function[0]}: {argument} => {value!r}: {error}"


def test_no_text_of_a_caller_becomes_a_part_of_a_statement(session: psycopg.Connection) -> None:
    found = functions(session)
    assert len(found) > 60
    text = {name for _, name, _, _ in found if name.endswith(("_sql", "_shape", "_columns"))}
    assert text == STATEMENTS.keys(), "a function that answers with a part of a statement is run in one here"
    failed = {function[0]: call(session, function, values_of(function)) for function in found}
    assert {signature: error for signature, error in failed.items() if error} == {}, "they need values in CALLS"
    assert [opening for function in found for opening in openings(session, function)] == []
    assert session.info.transaction_status == TransactionStatus.INTRANS


@pytest.mark.parametrize(
    "unsafe",
    [
        "execute 'select 1 where true ' || p_after into answer",
        "execute format('select %L::text || ''%s''', 'x', p_after) into answer",
        "execute format('select 1 as \"%s\"', p_after) into answer",
        "execute format('select 1 where %L < ' || quote_literal(p_after), 'x') into answer",
    ],
)
def test_a_function_that_lets_text_through_is_found(session: psycopg.Connection, unsafe: str) -> None:
    body = f"declare answer text; begin {unsafe}; return answer; end"
    session.execute("savepoint planted")
    session.execute(
        f"create function public.etl_planted(p_after text) returns text language plpgsql as $planted$ {body} $planted$;"
        "grant execute on function public.etl_planted to etl"
    )
    (planted,) = (function for function in functions(session) if function[1] == "etl_planted")
    found = list(openings(session, planted))
    session.execute("rollback to savepoint planted")
    assert len(found) == 1, found
