"""What a cleaned table holds, asked for over REST, in pages: of a bounded size, halved where one takes too long."""

from __future__ import annotations

import json
from pathlib import Path

import httpx

from local_stack import Stack
from tasks.contracts import USERS
from tasks.platform.functions import RestDatabase
from tasks.settings import Settings
from tasks.sink.rest import RestSink
from tasks.sink.target import ANSWER_ROWS, TargetReader
from tests.sink.kit import settings_for

KEYS = [f"00000000-0000-4000-8000-{n:012d}" for n in range(9_000)]
SLOW = 2_000  # more rows than this do not come in time


def answer(request: httpx.Request) -> httpx.Response:
    asked = json.loads(request.content)
    if asked["p_limit"] > SLOW:
        return httpx.Response(500, json={"code": "57014", "message": "canceling statement due to statement timeout"})
    page = [key for key in KEYS if key > asked["p_after"]][: asked["p_limit"]]
    columns = {"hashes": "h", "fingerprints": "-7", "masks": ""}
    stamps = {name: ",".join(value for _ in page) for name, value in columns.items()}
    return httpx.Response(200, json={"rows": len(page), "ids": ",".join(page), **stamps})


def test_a_page_that_times_out_is_halved_and_no_row_is_lost() -> None:
    settings = Settings(
        _env_file=None, supabase_url="http://127.0.0.1:9", supabase_service_key="sb_secret_x", retries=0
    )
    database = RestDatabase(settings, transport=httpx.MockTransport(answer))
    pages = list(TargetReader(database, 50_000).rows(USERS))
    assert [key for page in pages for key in page["id"].to_pylist()] == KEYS
    assert max(page.num_rows for page in pages) <= SLOW


_FULL = """
truncate public.clean_users, public.etl_reject_rows;
insert into public.clean_users (id, status, created_at, updated_at, row_hash, fingerprint, rule_mask)
select md5(n::text)::uuid, 'active', now(), now(), md5(n::text), -9223372036854775807, 32767
from generate_series(0, {rows}) n;
insert into public.etl_reject_rows ("table", id, key, rule, first_run)
select 'users', md5(n::text)::uuid || E'\\x1frefused_by_database_', md5(n::text)::uuid, 'x', 'r'
from generate_series(0, {rows}) n
"""
_BYTES = "select octet_length(etl_{what}_page('users', '', to_jsonb({rows}))::text)"


def test_no_answer_is_so_large_that_the_server_writes_it_to_its_disk(clean_stack: Stack, tmp_path: Path) -> None:
    """The smallest project has 2 MiB of work_mem."""
    clean_stack.query(_FULL.format(rows=ANSWER_ROWS))
    settings = settings_for(clean_stack, "rest", tmp_path, batch_rows=1_000_000)
    with RestSink(settings).compare() as target:
        sizes = {"target": [page.num_rows for page in target.rows(USERS)]}
        sizes["rejects"] = [page.num_rows for page in target.rejects(USERS)]
    for what, found in sizes.items():
        assert found == [ANSWER_ROWS, 1], what
        assert int(clean_stack.query(_BYTES.format(what=what, rows=ANSWER_ROWS))) < 2 * 2**20, what
