"""Partial tables add up: in any order, cut anywhere, merged whenever."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.cleaning import partials
from tasks.cleaning.partials import DAY, HOUR, PostPartials, hour_slots

AS_OF = 20_000 * DAY
posts = st.tuples(st.integers(0, 3), st.integers(19_990 * DAY, 20_002 * DAY), st.integers(0, 4), st.integers(0, 1))


def reduced(rows: list[tuple[int, int, int, int]], cuts: list[int]) -> PostPartials:
    edges = [0, *sorted(min(cut, len(rows)) for cut in cuts), len(rows)]
    signed_up = np.array([0, AS_OF - 1, AS_OF, 19_995 * DAY])
    result = PostPartials(AS_OF, signed_up)
    for first, last in zip(edges, edges[1:], strict=False):  # noqa: RUF007
        columns = np.array(rows[first:last], np.int64).reshape(-1, 4).T
        result.add(author=columns[0], created=columns[1], words=columns[2], untitled=columns[3])
    return result


@pytest.mark.parametrize("merge_rows", [0, 3, 200_000])
@given(st.lists(posts, max_size=30), st.lists(st.integers(0, 30)), st.randoms())
def test_any_cut_and_any_order_adds_up(merge_rows: int, rows: list[tuple[int, ...]], cuts: list[int], random) -> None:  # type: ignore[no-untyped-def]
    shuffled = random.sample(rows, len(rows))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(partials, "_MERGE_ROWS", merge_rows)
        one, other = reduced(rows, []), reduced(shuffled, cuts)  # type: ignore[arg-type]
    assert one.author_days.table().equals(other.author_days.table())
    assert one.histogram.table().equals(other.histogram.table())
    assert one.scope() == other.scope()


@given(st.integers(0, 253_402_300_799_999_999))
def test_an_hour_slot_is_month_weekday_and_hour(created: int) -> None:
    slot = int(hour_slots(np.array([created]))[0])
    moment = datetime.fromtimestamp(created // 1_000_000, UTC)
    month, weekday, hour = slot // 168, slot // 24 % 7 + 1, slot % 24
    assert (month, weekday, hour) == ((moment.year - 1970) * 12 + moment.month - 1, moment.isoweekday(), moment.hour)
    assert HOUR * 24 == DAY
