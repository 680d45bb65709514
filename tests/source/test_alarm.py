"""A count that differs from what was read: each key that is listed is read, gone by then, or the read fails."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from tasks.errors import ReadError
from tasks.source.alarm import MOST_MISSING
from tests.source.fake_postgrest import FakePostgrest
from tests.source.test_keyset import ids, is_page, read_keys


def test_rows_that_a_lying_page_left_out_are_fetched_by_key(tmp_path: Path) -> None:
    lied: list[httpx.Request] = []

    def trouble(request: httpx.Request) -> httpx.Response | None:
        if is_page(request) and len(lied) < 1 and "gt." in request.url.query.decode():
            lied.append(request)
            return httpx.Response(200, text="[]")
        return None

    got, done = read_keys(FakePostgrest(ids(100), cap=30, trouble=trouble), tmp_path, ranges=1)
    assert got == ids(100)
    assert "1 listed again" in done.how


def test_rows_that_vanished_meanwhile_are_dropped_but_for_one_that_is_there_again(tmp_path: Path) -> None:
    server, again = FakePostgrest(ids(100), cap=30), ids(100)[80]

    def trouble(request: httpx.Request) -> httpx.Response | None:
        if "count=exact" in request.headers.get("prefer", ""):
            server.rows = [key for key in server.rows if key not in {*ids(40)[35:], *ids(100)[68:]}]
        elif _by_key(request) and again not in server.rows:
            server.rows = [*server.rows, again]
        return None

    server.trouble = trouble
    got, _ = read_keys(server, tmp_path, ranges=1, batch_rows=10)
    assert got == [*ids(35), *ids(68)[40:], again]


def _by_key(request: httpx.Request) -> bool:
    return "content" in request.url.params.get("select", "") and "in." in request.url.query.decode()


def test_a_listed_key_that_is_gone_when_it_is_asked_for_is_no_gap(tmp_path: Path) -> None:
    server, asked = FakePostgrest(ids(100), cap=30), list[str]()

    def trouble(request: httpx.Request) -> httpx.Response | None:
        if "count=exact" in request.headers.get("prefer", ""):
            server.rows = ids(101)
        elif _by_key(request):
            asked.append(request.url.params["id"])
            server.rows = ids(100)
        return None

    server.trouble = trouble
    got, done = read_keys(server, tmp_path, ranges=1)
    assert got == ids(100)
    assert "1 listed again" in done.how
    assert asked == [f"in.({ids(101)[100]})"], "of all that is listed it alone was not read"


@pytest.mark.parametrize("missed", [1, 2, 3])
def test_a_listed_key_is_asked_for_three_times(tmp_path: Path, missed: int) -> None:
    """Its row may be deleted and inserted again meanwhile; one that stays listed and has no row fails the read.

    They are more than one request lists.
    """
    asked: list[httpx.Request] = []

    def trouble(request: httpx.Request) -> httpx.Response | None:
        if "content" not in request.url.params.get("select", ""):
            return None
        asked.extend([request] if _by_key(request) else [])
        hidden = len(asked) <= missed
        return FakePostgrest(ids(50) if hidden else ids(250))._answer(request)

    server = FakePostgrest(ids(250), trouble=trouble)
    if missed < 3:
        assert read_keys(server, tmp_path, ranges=1)[0] == ids(250)
    else:
        with pytest.raises(ReadError, match="200 rows are listed by their keys but cannot be read"):
            read_keys(server, tmp_path, ranges=1)
    assert len(asked) == min(missed + 1, 3)


def test_far_too_few_rows_are_read_again_and_then_an_error(tmp_path: Path) -> None:
    server = FakePostgrest(ids(MOST_MISSING + 2_000), cap=5_000)

    def trouble(request: httpx.Request) -> httpx.Response | None:
        if "content" in request.url.params.get("select", "") and "gt." in request.url.query.decode():
            return httpx.Response(200, text="[]")
        return None

    server.trouble = trouble
    with pytest.raises(ReadError, match="read 3 times"):
        read_keys(server, tmp_path, ranges=1)


@pytest.mark.parametrize("status", [200, 500, 504])
def test_a_count_that_cannot_be_had_is_no_failure(tmp_path: Path, status: int) -> None:
    def trouble(request: httpx.Request) -> httpx.Response | None:
        if "count=exact" in request.headers.get("prefer", ""):
            return httpx.Response(status, json={"code": "57014", "message": "timeout"} if status > 200 else [])
        return None

    got, done = read_keys(FakePostgrest(ids(30), trouble=trouble), tmp_path, ranges=1)
    assert got == ids(30)
    assert "1 not counted in time" in done.how
