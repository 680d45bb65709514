"""What a cleaned table holds, asked for over REST: a page that takes too long is asked for in halves."""

from __future__ import annotations

import json

import httpx

from tasks.contracts import USERS
from tasks.platform.functions import RestDatabase
from tasks.settings import Settings
from tasks.sink.target import TargetReader

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
