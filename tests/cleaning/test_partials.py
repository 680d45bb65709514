"""Partial tables add up: in any order, cut anywhere, in any number of pieces and partitions; and memory is bounded."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.cleaning import partials, pieces
from tasks.cleaning.counts import Scope
from tasks.cleaning.partials import AUTHOR_DAYS, DAY, HOUR, Accumulator, Columns, add_up, hour_slots, to_micros
from tasks.cleaning.pieces import MergeUnit, PartialTable, Piece, merge_sorted, merge_unit
from tasks.cleaning.reduced import PARTIALS, Reduced, clear_partials, reducing
from tasks.platform.workers import Tick
from tasks.workspace import Workspace, read_batches
from tests.cleaning.spools import small_pieces

Row = tuple[int, int, int, int]
AS_OF = 20_000 * DAY
SIGNED_UP = np.array([0, AS_OF - 1, AS_OF, 19_995 * DAY, 5, 6, 7])
posts = st.tuples(st.integers(0, 6), st.integers(19_990 * DAY, 20_002 * DAY), st.integers(0, 4), st.integers(0, 1))


def reduced(workspace: Workspace, rows: list[Row], cuts: list[int]) -> tuple[dict[str, pa.Table], Scope]:
    """The partial tables of the rows. cuts: rows after which a batch begins; every other cut begins a unit."""
    edges = [0, *sorted(min(cut, len(rows)) for cut in cuts), len(rows)]
    batches = [np.array(rows[first:last], np.int64).reshape(-1, 4).T for first, last in pairwise(edges)]
    clear_partials(workspace)
    everything = Reduced(AS_OF)
    for index in range(0, len(batches), 2):
        with reducing(workspace, index, AS_OF, SIGNED_UP) as (of_unit, result):
            for author, created, words, untitled in batches[index : index + 2]:
                of_unit.add(author=author, created=created, words=words, untitled=untitled)
        everything.add(result)
    everything.merge(workspace)
    return {of.name: PartialTable(workspace, of).spool.table() for of in PARTIALS}, everything.scope()


@settings(max_examples=40)
@given(
    rows=st.lists(posts, max_size=30),
    cuts=st.lists(st.integers(0, 30), max_size=12),
    random=st.randoms(),
    limits=st.fixed_dictionaries(
        {
            "merge": st.integers(0, 5),
            "spill": st.integers(1, 9),
            "batch": st.integers(1, 5),
            "fan_in": st.integers(2, 4),
            "group": st.integers(1, 9),
            "span": st.integers(1, 9),
        }
    ),
)
def test_any_cut_and_any_order_adds_up(rows, cuts, random, limits) -> None:  # type: ignore[no-untyped-def]
    with TemporaryDirectory() as folder:
        workspace = Workspace.create(Path(folder), "run")
        one = reduced(workspace, rows, [])
        with small_pieces(**limits):
            other = reduced(workspace, random.sample(rows, len(rows)), cuts)
            table = PartialTable(workspace, AUTHOR_DAYS)
            groups = list(table.groups())
            sizes = [batch.num_rows for path in table.spool.files() for batch in read_batches(path)]
        assert not (workspace.root / "pieces" / AUTHOR_DAYS.name).exists()
    assert one == other
    assert pa.concat_tables([other[0]["author_days"].slice(0, 0), *map(pa.table, groups)]) == one[0]["author_days"]
    assert all(a["author"][-1] < b["author"][0] for a, b in pairwise(groups)), "an author is in one group"
    assert max(sizes, default=0) <= limits["batch"]


def test_a_merge_holds_one_batch_of_each_piece_and_no_more_pieces_than_its_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    units: list[MergeUnit] = []

    def seen(unit: MergeUnit, tick: Tick) -> Piece:
        units.append(unit)
        return merge_unit(unit, tick)

    monkeypatch.setattr(pieces, "merge_unit", seen)
    random = np.random.default_rng(1)
    rows = [tuple(random.integers([0, 19_990 * DAY, 0, 0], [7, AS_OF, 5, 2]).tolist()) for _ in range(60)]
    with small_pieces(fan_in=3, span=4):
        reduced(Workspace.create(tmp_path, "run"), rows, list(range(60)))
    of_authors = [unit for unit in units if unit.partial.name == AUTHOR_DAYS.name]
    assert sum(not unit.is_last for unit in of_authors) > 12, "the tree has levels"
    assert sum(unit.is_last for unit in of_authors) == 2, "and the table partitions"
    assert max(len(unit.pieces) for unit in units) == 3


@given(st.lists(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 30)), unique=True), max_size=5), st.integers(1, 4))
def test_a_merge_asks_for_a_batch_when_the_one_before_is_used_up(
    sources: list[list[tuple[int, int]]], size: int
) -> None:
    reached = (-1, -1)

    def batches(keys: list[tuple[int, int]]) -> Iterator[Columns]:
        for start in range(0, len(keys), size):
            part = keys[start : start + size]
            yield rows_of(part)
            assert reached >= part[-1], "two batches of a source are in memory"

    merged = []
    for rows in merge_sorted(AUTHOR_DAYS, [batches(sorted(keys)) for keys in sources]):
        merged.append(rows)
        reached = (int(rows["author"][-1]), int(rows["day"][-1]))
    whole = add_up(AUTHOR_DAYS, [rows_of(sorted(key for keys in sources for key in keys))])
    for name, expected in whole.items():
        assert [value for rows in merged for value in rows[name].tolist()] == expected.tolist()


def rows_of(keys: list[tuple[int, int]]) -> Columns:
    author, day = np.array(keys, np.int64).reshape(-1, 2).T
    return dict.fromkeys(AUTHOR_DAYS.schema.names, np.ones(len(keys), np.int64)) | {"author": author, "day": day}


def test_an_accumulator_holds_a_bounded_number_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partials, "_MERGE_ROWS", 10)
    monkeypatch.setattr(partials, "SPILL_ROWS", 50)
    spilled: list[Columns] = []
    table = Accumulator(AUTHOR_DAYS, spilled.append)
    for first in range(0, 5_000, 7):
        table.add(rows_of([(author, 1) for author in range(first, first + 7)]))
        assert table.held <= 2 * 50 + 7
    table.end()
    assert len(spilled) > 40
    assert sum(len(rows["author"]) for rows in spilled) == 5_005


@given(st.integers(0, 253_402_300_799_999_999))
def test_an_hour_slot_is_month_weekday_and_hour(created: int) -> None:
    assert to_micros(datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=created)) == created
    slot = int(hour_slots(np.array([created]))[0])
    moment = datetime.fromtimestamp(created // 1_000_000, UTC)
    month, weekday, hour = slot // 168, slot // 24 % 7 + 1, slot % 24
    assert (month, weekday, hour) == ((moment.year - 1970) * 12 + moment.month - 1, moment.isoweekday(), moment.hour)
    assert HOUR * 24 == DAY
