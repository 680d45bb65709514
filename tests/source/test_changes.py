"""Changes are found whole over REST, however the key space is cut, and where answers are cut off or take too long."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from hypothesis import given
from hypothesis import settings as of_hypothesis
from hypothesis import strategies as st

from local_stack import Stack
from local_stack.tests.conftest import reload_schema
from tasks.contracts import Kind, Table
from tasks.errors import PipelineError
from tasks.settings import Settings, Transport
from tasks.source import changes_postgres, open_source
from tasks.source.changes import WHOLE, CannotFindChanges, ChangeFinder, Changes, TooManyChanges, keys_of
from tasks.source.changes_rest import MOST_TIMEOUTS, ROWS_PER_CALL
from tests.incremental.test_nights import NO_SHARED_MEMORY
from tests.source.fake_postgrest import FakePostgrest
from tests.source.kit import posts_at, read, settings_for, source_table
from tests.source.test_keyset import BIGINTS, UUIDS, ids

FINGERPRINTS = st.one_of(st.integers(0, 3), st.sampled_from([-(2**63), -1, 2**63 - 1]))
ENDS: dict[Kind, tuple[Any, Any]] = {"bigint": (-(2**63), 2**63 - 1), "uuid": (0, 2**128 - 1)}
TIMEOUT = {"code": "57014", "message": "canceling statement due to statement timeout"}


@dataclass
class FakeDatabase(FakePostgrest):
    """there, known: fingerprints by key, at the source and as stored. most: keys in one answer. in_time: rows compared.

    asked: functions with their arguments.
    """

    keys: Any = ()
    there: Mapping[Any, int] = field(default_factory=dict)
    known: Mapping[Any, int] = field(default_factory=dict)
    most: int = 50_000
    in_time: int = 10**9
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    timeouts: int = 0

    def _answer(self, request: httpx.Request) -> httpx.Response:
        function = request.url.path.rpartition("/rpc/")[2]
        given = json.loads(request.content)
        if function != "etl_preflight":
            self.asked.append((function, given))
        if function == "etl_sample_known":
            return httpx.Response(200, json=[str(key) for key in self.cuts(given["p_parts"])])
        return self._changes(given) if function == "etl_find_changes" else super()._answer(request)

    def _changes(self, given: dict[str, Any]) -> httpx.Response:
        after, until = (self._key(given[name]) if given[name] else None for name in ("p_after", "p_until"))
        within = [
            key for key in sorted({*self.there, *self.known})
            if (after is None or key > after) and (until is None or key <= until)
        ]  # fmt: skip
        if len(within) > self.in_time:
            self.timeouts += 1
            return httpx.Response(500, json=TIMEOUT)
        found = [key for key in within if self.there.get(key) != self.known.get(key)]
        changed = [[str(k), k in self.there, str(self.there[k]) if k in self.there else None] for k in found]
        most = min(self.most, given["p_most"])
        answer: dict[str, Any] = {"changed": changed[:most], "more": len(changed) > most}
        for name, of in (("source", self.there), ("known", self.known)):
            stored = [of[key] for key in within if key in of]
            answer |= {f"{name}_rows": len(stored), f"{name}_sum": str(sum(stored))}
        return httpx.Response(200, json={**answer, "target_rows": answer["known_rows"]})


@contextmanager
def opened(server: FakePostgrest) -> Iterator[tuple[ChangeFinder, Table]]:
    """What finds changes on this server."""
    values = {"supabase_url": "http://127.0.0.1", "supabase_service_key": "sb_secret_test", "transport": "rest",
              "retry_base": 0.0001, "retries": 2}  # fmt: skip
    table = posts_at("posts", "bigint" if server.kind == "bigint" else "uuid")
    with open_source(Settings(_env_file=None, **values), transport=server) as source:  # type: ignore[arg-type]
        source.preflight([table])
        yield source.changes(), table


@contextmanager
def finding(server: FakeDatabase) -> Iterator[Any]:
    """The search for changes, of most keys and about so many known rows."""
    with opened(server) as (finder, table):
        yield lambda most=10**6, known=0: finder.find(table, most, known)


def key_of(kind: str, number: int) -> Any:
    return number if kind == "bigint" else str(UUID(int=number))


def assert_all_found(found: Changes, server: FakeDatabase) -> None:
    there, known = server.there, server.known
    listed = {key: there.get(key) for key in {*there, *known} if there.get(key) != known.get(key)}
    assert found.fingerprints == {str(key): fingerprint for key, fingerprint in listed.items()}
    assert (found.source_rows, found.source_sum) == (len(there), sum(there.values()) % WHOLE)
    assert (found.known_rows, found.known_sum) == (len(known), sum(known.values()) % WHOLE)
    assert found.target_rows == len(known)


@of_hypothesis(max_examples=60)
@given(data=st.data(), kind=st.sampled_from(["uuid", "bigint"]))
def test_each_row_is_compared_once_however_answers_end(data: st.DataObject, kind: str) -> None:
    keys = UUIDS if kind == "uuid" else BIGINTS
    there, known = (data.draw(st.dictionaries(keys, FINGERPRINTS, max_size=20)) for _ in range(2))
    cuts = data.draw(st.lists(st.one_of(keys, *([st.sampled_from([*there])] if there else [])), max_size=6))
    server = FakeDatabase(
        kind=kind, cuts=lambda parts: cuts, estimate=3 * ROWS_PER_CALL, there=there, known=known,
        most=data.draw(st.integers(1, 6)), in_time=data.draw(st.integers(1, 40)),
    )  # fmt: skip
    with finding(server) as find:
        try:
            assert_all_found(find(), server)
        except CannotFindChanges:
            assert server.timeouts > MOST_TIMEOUTS
        else:
            assert server.timeouts <= MOST_TIMEOUTS
    ranges = [(given["p_after"], given["p_until"]) for name, given in server.asked if name == "etl_find_changes"]
    assert len(ranges) == len(set(ranges)), "what took too long is not asked for again as it was"


@pytest.mark.parametrize("answers", [50_000, 5])
def test_more_changes_than_are_worth_it_end_the_search(answers: int) -> None:
    """Also where answers are cut off: what they list already is too much, so that nothing is asked for in halves."""
    server = FakeDatabase(there=dict.fromkeys(ids(5), 1), most=answers)
    with finding(server) as find:
        assert_all_found(find(5), server)
        server.there = dict.fromkeys(ids(1_000), 1)
        server.asked.clear()
        with pytest.raises(TooManyChanges):
            find(4)
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("rows", "known", "function", "parts"),
    [
        (ROWS_PER_CALL, ROWS_PER_CALL, None, 1),
        (3 * ROWS_PER_CALL, 0, "etl_sample_keys", 3),
        (ROWS_PER_CALL, 2 * ROWS_PER_CALL, "etl_sample_keys", 2),
        (ROWS_PER_CALL - 1, 2 * ROWS_PER_CALL, "etl_sample_known", 2),
        (0, 3 * ROWS_PER_CALL, "etl_sample_known", 3),
        (1_000 * ROWS_PER_CALL, 0, "etl_sample_keys", 128),
    ],
)
def test_ranges_are_cut_by_what_has_the_rows(rows: int, known: int, function: str | None, parts: int) -> None:
    """A source that was emptied has no keys to cut by, and what is known of it is as much as before."""
    server = FakeDatabase(there=dict.fromkeys(ids(9), 1), cuts=lambda parts: ids(9)[1:8:3], estimate=rows)
    with finding(server) as find:
        assert_all_found(find(known=known), server)
    sampled = [(name, given["p_parts"]) for name, given in server.asked if name != "etl_find_changes"]
    assert sampled == ([(function, parts)] if function else [])
    assert len(server.asked) - len(sampled) == (4 if function else 1)


def _cut_at(key: Any, parts: int) -> list[Any]:
    return [key]


@pytest.mark.parametrize("kind", ENDS)
@pytest.mark.parametrize("end", [0, 1])
def test_one_key_that_takes_too_long_cannot_be_compared(kind: Kind, end: int) -> None:
    """The first and the last key of all; and where there are two, each is asked for alone."""
    number = ENDS[kind][end]
    for others, words in ((0, "one key of posts takes longer than the statement timeout"), (1, "")):
        edge = number if end == 0 else number - 1
        cut = key_of(kind, edge + others if end == 0 else edge - others)
        keys = [key_of(kind, number + step if end == 0 else number - step) for step in range(others + 1)]
        server = FakeDatabase(kind=kind, there=dict.fromkeys(keys, 1), in_time=others, estimate=2 * ROWS_PER_CALL)
        server.cuts = partial(_cut_at, cut)
        with finding(server) as find:
            if words:
                with pytest.raises(CannotFindChanges, match=words):
                    find()
            else:
                assert_all_found(find(), server)
        assert server.timeouts == 1


def test_a_view_that_times_out_again_and_again_is_given_up() -> None:
    """Each of these was a scan of all rows, where a key cannot be pushed into the view."""
    server = FakeDatabase(there=dict.fromkeys(ids(9), 1), in_time=0)
    with finding(server) as find, pytest.raises(CannotFindChanges, match="the changes of posts timed out 25 times"):
        find()
    assert server.timeouts <= MOST_TIMEOUTS + 2


@pytest.mark.parametrize(("code", "times"), [("42501", 1), ("53300", 3)])
def test_what_fails_for_another_reason_is_not_asked_for_in_halves(code: str, times: int) -> None:
    def trouble(request: httpx.Request) -> httpx.Response | None:
        finds = request.url.path.endswith("/etl_find_changes")
        asked.extend([request] if finds else [])
        return httpx.Response(500, json={"code": code, "message": "no"}) if finds else None

    asked: list[httpx.Request] = []
    server = FakeDatabase(there=dict.fromkeys(ids(9), 1), trouble=trouble)
    with finding(server) as find, pytest.raises(PipelineError, match=code):
        find()
    assert len(asked) == times


@pytest.mark.parametrize(
    ("rows", "in_time", "size", "asked_for"),
    [(8, 3, 10, [8, 4, 2, 2, 4, 2, 2]), (2, 9, 9 * 2**20, [2, 1, 1]), (2_001, 10**9, 10, [1_000, 1_000, 1])],
)
def test_rows_asked_for_by_key_come_a_thousand_at_once_and_in_halves_where_they_are_too_many(
    rows: int, in_time: int, size: int, asked_for: list[int]
) -> None:
    """For their time, or for their size; a row that is larger than an answer may be is taken as it is."""

    def trouble(request: httpx.Request) -> httpx.Response | None:
        if not request.url.path.endswith("/etl_rows_by_key"):
            return None
        keys = request.url.params["id"].removeprefix("in.(").removesuffix(")").split(",")
        asked.append(len(keys))
        found = [{"id": key, "content": "x" * size, "_fingerprint": "1"} for key in keys]
        return httpx.Response(500, json=TIMEOUT) if len(keys) > in_time else httpx.Response(200, json=found)

    asked: list[int] = []
    with opened(FakePostgrest(ids(rows), trouble=trouble)) as (finder, table):
        assert finder.fetch(table, keys_of(table, ids(rows)))["id"].to_pylist() == ids(rows)
    assert asked == asked_for


# Three posts of which nothing is stored, three that changed since, and two that are gone at the source.
_STORED = """
insert into clean_posts (id, user_id, word_count, char_count, is_before_signup, created_at, updated_at, row_hash,
                         fingerprint, rule_mask)
select id::uuid, id::uuid, 0, 0, false, now(), now(), '', fingerprint + case when n between 4 and 6 then 1 else 0 end, 0
from (select id, fingerprint, row_number() over (order by id) as n from (values {rows}) x (id, fingerprint)) numbered
where n > 3;
insert into clean_posts (id, user_id, word_count, char_count, is_before_signup, created_at, updated_at, row_hash,
                         fingerprint, rule_mask)
select id, id, 0, 0, false, now(), now(), '', 7, 0 from (select gen_random_uuid() as id from generate_series(1, 2)) x
"""
_SEED = "select pg_get_functiondef('etl_seed_value'::regproc)"


@pytest.mark.parametrize("transport", ["postgres", "rest"])
def test_a_view_is_compared_row_by_row_as_a_table_is_by_its_index(
    clean_stack: Stack, transport: Transport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where workers cannot share what they compare (the next try is without them), and with more changes than one
    answer may list."""
    settings, seed = settings_for(clean_stack, transport, tmp_path), clean_stack.query(_SEED)
    with source_table(clean_stack, rows=200) as name:
        clean_stack.query(
            f"create view public.{name}_view as select * from public.{name}; "
            f"grant select on public.{name}_view to service_role, etl"
        )
        reload_schema(clean_stack)
        there = read(settings, posts_at(name), tmp_path)[0].select(["id", "_fingerprint"]).to_pylist()
        rows = ", ".join(f"('{row['id']}', {row['_fingerprint']})" for row in there)
        clean_stack.query(_STORED.format(rows=rows))
        clean_stack.query(NO_SHARED_MEMORY)
        try:
            for source in (name, f"{name}_view"):
                with pytest.raises(TooManyChanges):
                    _find(settings, source, 7)
            found = [_find(settings, source, 8) for source in (name, f"{name}_view")]
            monkeypatch.setattr(changes_postgres, "_MOST_IN_ONE_ANSWER", 5)
            assert _find(settings, name, 8) == found[0]
        finally:
            clean_stack.query(seed)
    assert found[0] == found[1]
    fingerprints, *sums = found[0]
    first = sorted(there, key=lambda row: row["id"])[:6]
    assert {key for key, of in fingerprints.items() if of is None} == {*fingerprints} - {row["id"] for row in first}
    assert {key: of for key, of in fingerprints.items() if of is not None} == {
        row["id"]: row["_fingerprint"] for row in first
    }
    total = sum(row["_fingerprint"] for row in there)
    known = total - sum(row["_fingerprint"] for row in first[:3]) + 3 + 2 * 7
    assert sums == [200, total % WHOLE, 199, known % WHOLE, 199]


def _find(settings: Settings, source: str, most: int) -> list[Any]:
    table = posts_at(source)
    with open_source(settings) as opened:
        opened.preflight([table])
        finder = opened.changes()
        try:
            found = finder.find(table, most, 200)
        finally:
            finder.end()
    sums = (found.source_rows, found.source_sum, found.known_rows, found.known_sum, found.target_rows)
    return [found.fingerprints, *sums]
