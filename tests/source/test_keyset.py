"""Keyset reading is complete and exact over any keys, cuts, page sizes and row caps, and when pages misbehave."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.contracts import Kind
from tasks.errors import AccessError, ReadError, ServiceUnavailable
from tasks.settings import Settings
from tasks.source import TableRead, open_source
from tests.source.fake_postgrest import FakePostgrest
from tests.source.kit import posts_at, spool_at

# Neighbours, gaps and the ends of the key space: where off-by-one lives.
BIGINTS = st.one_of(
    st.integers(-(2**63) + 1, 2**63 - 1), st.integers(-3, 40), st.sampled_from([2**53, 2**53 + 1, 2**63 - 1])
)
UUIDS = st.one_of(st.uuids(), st.integers(0, 40).map(lambda n: UUID(int=n)), st.just(UUID(int=2**128 - 1))).map(str)


def read_keys(server: FakePostgrest, folder: Path, **more: object) -> tuple[list[object], TableRead]:
    values = {"supabase_url": "http://127.0.0.1", "supabase_service_key": "sb_secret_test", "transport": "rest",
              "retry_base": 0.0001, "retries": 4, "data_dir": folder, **more}  # fmt: skip
    kind: Kind = "bigint" if server.kind == "bigint" else "uuid"
    table = posts_at("posts", kind)
    with open_source(Settings(_env_file=None, **values), transport=server) as source:  # type: ignore[arg-type]
        source.preflight([table])
        done = source.read(table, spool_at(folder, table))
    return spool_at(folder, table).table()["id"].to_pylist(), done


@settings(max_examples=60)
@given(data=st.data(), kind=st.sampled_from(["uuid", "bigint"]))
def test_every_key_comes_once_and_in_order(data: st.DataObject, kind: str) -> None:
    keys: list[Any] = data.draw(st.lists(UUIDS if kind == "uuid" else BIGINTS, unique=True, max_size=60))
    cuts = data.draw(st.lists(st.sampled_from(keys), unique=True, max_size=8)) if keys else []
    strange = data.draw(st.lists(UUIDS if kind == "uuid" else BIGINTS, unique=True, max_size=3))
    server = FakePostgrest(
        keys, cap=data.draw(st.sampled_from([1, 2, 7, 100, 1000])), kind=kind, cuts=lambda parts: [*cuts, *strange]
    )
    page, ranges = data.draw(st.integers(1, 70)), data.draw(st.integers(1, 4))
    with tempfile.TemporaryDirectory() as folder:
        got, done = read_keys(server, Path(folder), page_rows=page, ranges=ranges)
    assert got == sorted(keys)
    assert done.rows == len(keys)


def ids(count: int) -> list[str]:
    return [str(UUID(int=n)) for n in range(count)]


def is_page(request: httpx.Request) -> bool:
    return "order=" in request.url.query.decode() and "in." not in request.url.query.decode()


def test_a_statement_timeout_halves_the_page_and_goes_on(tmp_path: Path) -> None:
    """What took too long is not asked for again as it was, and a page grows again only after eight good ones."""
    asked: list[int] = []

    def trouble(request: httpx.Request) -> httpx.Response | None:
        if not is_page(request):
            return None
        asked.append(int(request.url.params["limit"]))
        body = {"code": "57014", "message": "canceling statement due to statement timeout"}
        return httpx.Response(500, json=body) if asked[-1] > 40 else None

    got, _ = read_keys(FakePostgrest(ids(300), trouble=trouble), tmp_path, ranges=1)
    assert got == ids(300)
    assert asked == [1_000, 500, 250, 125, 62, *[31] * 8, 62, *[15] * 5]


def test_a_page_of_one_row_that_times_out_ends_in_one_clear_error(tmp_path: Path) -> None:
    def trouble(request: httpx.Request) -> httpx.Response | None:
        if is_page(request):
            return httpx.Response(
                500, json={"code": "57014", "message": "canceling statement due to statement timeout"}
            )
        return None

    with pytest.raises(ServiceUnavailable, match=r"public\.posts, page 1 of range 1: .*57014.*Tried 5 times"):
        read_keys(FakePostgrest(ids(3), trouble=trouble), tmp_path)


def test_pages_shrink_when_rows_are_large(tmp_path: Path) -> None:
    def trouble(request: httpx.Request) -> httpx.Response | None:
        if not is_page(request):
            return None
        limit = int(request.url.params["limit"])
        after = request.url.params.get("id", "gt.").removeprefix("gt.")
        rows = [{"id": key, "content": "x" * 2**18} for key in ids(20) if key > after][:limit]
        return httpx.Response(200, json=rows)

    got, _ = read_keys(FakePostgrest(ids(20), trouble=trouble), tmp_path, ranges=1, batch_bytes=2**20)
    assert got == ids(20)


class Unread(httpx.SyncByteStream):
    """A body that counts what is taken of it."""

    def __init__(self, body: bytes) -> None:
        self.body, self.taken = body, 0

    def __iter__(self) -> Iterator[bytes]:
        for start in range(0, len(self.body), 2**16):
            self.taken += 2**16
            yield self.body[start : start + 2**16]


def test_a_body_past_its_bound_is_left_and_a_row_that_is_larger_is_taken(tmp_path: Path) -> None:
    bodies: list[tuple[int, Unread]] = []

    def trouble(request: httpx.Request) -> httpx.Response | None:
        if not is_page(request):
            return None
        limit, after = int(request.url.params["limit"]), request.url.params.get("id", "gt.").removeprefix("gt.")
        rows = [{"id": key, "content": "x" * 3 * 2**19} for key in ids(3) if key > after][:limit]
        bodies.append((limit, Unread(json.dumps(rows).encode())))
        return httpx.Response(200, stream=bodies[-1][1])

    got, _ = read_keys(FakePostgrest(ids(3), trouble=trouble), tmp_path, ranges=1, batch_bytes=2**20)
    assert got == ids(3)
    assert [limit for limit, _ in bodies[-4:]] == [1, 1, 1, 1]
    assert max(body.taken for limit, body in bodies if limit > 1) <= 2**20 + 2**16


def test_no_page_is_so_large_that_the_server_writes_it_to_its_disk(tmp_path: Path) -> None:
    """The smallest project has 2 MiB of work_mem."""
    sizes: list[int] = []

    def trouble(request: httpx.Request) -> httpx.Response | None:
        if not is_page(request):
            return None
        after = request.url.params.get("id", "gt.").removeprefix("gt.")
        rows = [{"id": key, "content": "x" * 1_000} for key in keys if key > after][: int(request.url.params["limit"])]
        sizes.append(len(json.dumps(rows)))
        return httpx.Response(200, json=rows)

    keys = ids(6_000)
    got, _ = read_keys(FakePostgrest(keys, trouble=trouble), tmp_path, ranges=1)
    assert got == keys
    assert max(sizes) < 2 * 2**20
    assert len(sizes) < 8, "and none is small"


@pytest.mark.parametrize("body", ['[{"id": "0000', "", "<html>busy</html>", '{"id": 1}', "[1"])
def test_a_body_that_is_cut_or_not_json_is_asked_for_again(tmp_path: Path, body: str) -> None:
    answered: list[httpx.Request] = []

    def trouble(request: httpx.Request) -> httpx.Response | None:
        if is_page(request) and len(answered) < 2:
            answered.append(request)
            return httpx.Response(200, text=body)
        return None

    got, _ = read_keys(FakePostgrest(ids(30), trouble=trouble), tmp_path, ranges=1)
    assert got == ids(30)


def test_a_body_that_stays_cut_is_never_a_short_page(tmp_path: Path) -> None:
    def trouble(request: httpx.Request) -> httpx.Response | None:
        return httpx.Response(200, text='[{"id": "') if is_page(request) else None

    with pytest.raises(ServiceUnavailable, match="cut short"):
        read_keys(FakePostgrest(ids(30), trouble=trouble), tmp_path)


def test_a_server_that_drips_does_not_hold_a_worker(tmp_path: Path) -> None:
    class Dripping(httpx.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            yield b"["
            for _ in range(40):
                time.sleep(0.005)
                yield b" "
            yield b"]"

    def trouble(request: httpx.Request) -> httpx.Response | None:
        return httpx.Response(200, stream=Dripping()) if is_page(request) else None

    with pytest.raises(ServiceUnavailable, match="The answer was not complete after 0 s"):
        read_keys(FakePostgrest([], trouble=trouble), tmp_path, retry_seconds=0.05)


def test_a_refusal_ends_at_once_and_names_the_page_without_values(tmp_path: Path) -> None:
    pages = []

    def trouble(request: httpx.Request) -> httpx.Response | None:
        if is_page(request):
            pages.append(request)
            body = {"code": "22P02", "message": 'invalid input: "ada@example.com"', "details": "ada@example.com"}
            return httpx.Response(400, json=body)
        return None

    with pytest.raises(Exception, match=r"public\.posts, page 1 of range 1: .*22P02") as caught:
        read_keys(FakePostgrest(ids(30), trouble=trouble), tmp_path, ranges=1)
    assert len(pages) == 1
    assert "ada" not in str(caught.value)


def test_a_key_that_is_revoked_while_reading_is_an_access_error(tmp_path: Path) -> None:
    def trouble(request: httpx.Request) -> httpx.Response | None:
        return httpx.Response(401, json={"code": "PGRST301", "message": "JWT expired"}) if is_page(request) else None

    with pytest.raises(AccessError, match="PGRST301"):
        read_keys(FakePostgrest(ids(30), trouble=trouble), tmp_path)


@pytest.mark.parametrize(
    ("pages", "words"),
    [
        ([ids(5)[::-1]], "not in the order of their keys"),
        ([ids(1) * 2], "a key came twice"),
        ([[ids(2)[0], *ids(2)]], "a key came twice"),
        ([ids(2), ids(3)[1:]], "a key came twice"),
        ([[ids(1)[0], None]], "a row whose key is null came back"),
    ],
)
def test_pages_that_are_no_evidence_are_an_error(tmp_path: Path, pages: list[list[str | None]], words: str) -> None:
    left = list(pages)

    def trouble(request: httpx.Request) -> httpx.Response | None:
        if not is_page(request):
            return None
        return httpx.Response(200, json=[{"id": key} for key in (left.pop(0) if left else [])])

    with pytest.raises(ReadError, match=words):
        read_keys(FakePostgrest(ids(5), trouble=trouble), tmp_path, ranges=1)


@pytest.mark.parametrize("ranges", [1, 2])
def test_a_server_that_answers_all_rows_whatever_is_asked_for_is_an_error(tmp_path: Path, ranges: int) -> None:
    """The page after the first one, or that of a range of some keys."""

    def trouble(request: httpx.Request) -> httpx.Response | None:
        return httpx.Response(200, json=[{"id": key} for key in ids(5)]) if is_page(request) else None

    server = FakePostgrest(ids(5), cuts=lambda parts: [ids(5)[2]], trouble=trouble)
    with pytest.raises(ReadError, match="not in the order of their keys"):
        read_keys(server, tmp_path, ranges=ranges)
    assert len([request for request in server.requests if is_page(request)]) <= 2


def test_the_first_failure_stops_the_other_ranges(tmp_path: Path) -> None:
    keys = ids(4000)
    asked = []

    def trouble(request: httpx.Request) -> httpx.Response | None:
        asked.append(request)
        first = is_page(request) and "gt." not in request.url.query.decode()
        return httpx.Response(403, json={"code": "42501", "message": "no"}) if first else None

    server = FakePostgrest(keys, cap=1, cuts=lambda parts: keys[1000::1000], trouble=trouble, estimate=4000)
    with pytest.raises(AccessError):
        read_keys(server, tmp_path, ranges=4)
    assert len(asked) < 1000


@pytest.mark.parametrize(
    ("estimate", "parts"), [(2_000, []), (2_001, [4]), (10_000_001, [201]), (13_000_000, [256]), (-1, [])]
)
def test_a_table_is_cut_into_ranges_of_fifty_thousand_rows_and_at_most_256(
    tmp_path: Path, estimate: int, parts: list[int]
) -> None:
    asked: list[int] = []

    def cuts(number: int) -> list[str]:
        asked.append(number)
        return []

    got, _ = read_keys(FakePostgrest(ids(3), cuts=cuts, estimate=estimate), tmp_path, ranges=4)
    assert (got, asked) == (ids(3), parts)


@pytest.mark.parametrize("kind", ["uuid", "bigint"])
def test_a_sampled_key_of_another_kind_ends_the_reading(tmp_path: Path, kind: str) -> None:
    with pytest.raises(ReadError, match=f"A key of the table is no {kind}"):
        read_keys(FakePostgrest([], kind=kind, cuts=lambda parts: ["x"]), tmp_path)


@pytest.mark.parametrize(
    ("cut", "text"),
    [(2**53 - 1, "9007199254740991"), (2**53, "09007199254740992"), (-(2**53), "-09007199254740992")],
)
def test_a_key_that_a_float_does_not_hold_is_no_number_in_a_url(tmp_path: Path, cut: int, text: str) -> None:
    server = FakePostgrest([cut, cut + 1], kind="bigint", cuts=lambda parts: [cut])
    assert read_keys(server, tmp_path)[0] == [cut, cut + 1]
    counted = [r.url.params["id"] for r in server.requests if "count=exact" in r.headers.get("prefer", "")]
    assert sorted(counted) == [f"gt.{text}", f"lte.{text}"]
