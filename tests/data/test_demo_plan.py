"""The plan of the demo's dirt: complete, disjoint and the same every time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.demo import expected_counts, make_tables
from data.demo.dirt import POST_KINDS, USER_KINDS, Kind
from data.demo.plan import KINDS, MIN_ROWS, REJECTED, RULES, kinds_of_rows, rows_of
from data.demo.texts import LANGUAGES, pool
from data.demo.times import DAY, Numbers, instant

UNTIL = datetime(2026, 2, 1, tzinfo=UTC)
SIZES = st.integers(MIN_ROWS, 10**7)


def tables(users: int = 2_000, posts: int = 6_000, seed: int = 7) -> dict[str, pa.Table]:
    made: dict[str, list[pa.Table]] = {"users": [], "posts": []}
    for name, table in make_tables(users, posts, seed, until=UNTIL):
        made[name].append(table)
    return {name: pa.concat_tables(parts) for name, parts in made.items()}


def plain_times(table: pa.Table) -> Numbers:
    """created_at in microseconds since 2000, of the rows from the ten years before UNTIL."""
    times: Numbers = table["created_at"].drop_null().to_numpy()
    return times[(times > instant(UNTIL) - 3_653 * DAY) & (times < instant(UNTIL))]


@pytest.mark.parametrize("table", ["users", "posts"])
def test_every_rule_is_tripped_by_some_kind(table: str) -> None:
    assert {rule for kind in KINDS[table] for rule in kind.trips} == set(RULES[table])


@pytest.mark.parametrize("kinds", [USER_KINDS, POST_KINDS], ids=["users", "posts"])
def test_a_kind_has_a_name_of_its_own_and_no_rule_after_the_one_that_rejects(kinds: tuple[Kind, ...]) -> None:
    assert len({kind.name for kind in kinds}) == len(kinds)
    for kind in kinds:
        assert not REJECTED.intersection(kind.trips[:-1]), kind.name


@given(users=SIZES, posts=SIZES)
def test_figures_add_up(users: int, posts: int) -> None:
    counts = expected_counts(users, posts)
    for table, rows in (("users", users), ("posts", posts)):
        figures = counts[table]
        rejected = sum(count.rows_affected for rule, count in figures.rules.items() if rule in REJECTED)
        assert figures.rows == rows == figures.kept + figures.rejected
        assert figures.rejected == rejected
        assert all(1 <= count.rows_affected <= count.rows_checked for count in figures.rules.values())
        assert sum(figures.kinds.values()) < rows * 0.7, "plain rows are the most"


@given(rows=st.integers(MIN_ROWS, 20_000), table=st.sampled_from(["users", "posts"]))
def test_a_row_has_one_kind_at_most(rows: int, table: str) -> None:
    placed = kinds_of_rows(table, rows, np.random.default_rng(rows))
    assert len(placed) == rows
    assert [(placed == i).sum() for i in range(len(KINDS[table]))] == [rows_of(kind, rows) for kind in KINDS[table]]


@pytest.mark.parametrize(("users", "posts"), [(MIN_ROWS - 1, 0), (MIN_ROWS, 1), (0, MIN_ROWS), (-1, 0), (MIN_ROWS, -5)])
def test_sizes_without_room_for_every_kind_are_refused(users: int, posts: int) -> None:
    with pytest.raises(ValueError, match=r"posts|Posts"):
        expected_counts(users, posts)


def test_an_empty_demo_has_zeros_for_every_rule() -> None:
    figures = expected_counts(0, 0).quality()
    assert list(figures) == [(table, rule) for table in RULES for rule in RULES[table]]
    assert set(figures.values()) == {(0, 0)}
    assert list(make_tables(0, 0)) == []


def test_the_same_arguments_give_the_same_rows_and_another_seed_others() -> None:
    first, again, other = tables(), tables(), tables(seed=8)
    for name in ("users", "posts"):
        assert first[name].equals(again[name])
        assert not set(first[name]["id"].to_pylist()) & set(other[name]["id"].to_pylist())


def test_more_posts_leave_the_users_as_they_are() -> None:
    assert tables(posts=400)["users"].equals(tables(posts=6_000)["users"])


@pytest.mark.parametrize("what", ["names", "titles", "sentences"])
def test_texts_are_clean_before_they_are_spoilt(what: str) -> None:
    texts = pool(what).texts
    assert pc.utf8_normalize(texts, "NFC").equals(texts)
    assert pc.utf8_trim_whitespace(texts).equals(texts)
    assert not pc.any(pc.match_substring_regex(texts, r"\p{Cc}|[\x{200B}\x{2060}\x{FEFF}\x{202A}-\x{202E}]")).as_py()


def test_many_scripts_and_joined_emoji_are_there() -> None:
    made = tables(users=4_000, posts=4_000)
    scripts = ["Latin", "Cyrillic", "Greek", "Arabic", "Hebrew", "Devanagari", "Han", "Hiragana", "Katakana", "Hangul"]
    for column in (made["users"]["name"], made["posts"]["title"], made["posts"]["content"]):
        missing = [s for s in scripts if not pc.any(pc.match_substring_regex(column, rf"\p{{{s}}}")).as_py()]
        assert missing == []
    for column in (made["users"]["name"], made["users"]["bio"], made["posts"]["content"]):
        assert pc.any(pc.match_substring(column, "\u200d")).as_py()
    assert len(LANGUAGES) == 13


def test_it_grows() -> None:
    made = tables(users=4_000, posts=10_000)
    for table in made.values():
        times = plain_times(table)
        year = [((times >= instant(UNTIL) - (n + 1) * 365 * DAY) & (times < instant(UNTIL) - n * 365 * DAY)).sum()
                for n in (2, 1, 0)]  # fmt: skip
        assert year[0] * 1.5 < year[1]
        assert year[1] * 1.5 < year[2]


def test_weekends_and_nights_are_quieter() -> None:
    times = plain_times(tables(posts=10_000)["posts"])
    weekday = (times // DAY + 5) % 7  # 2000-01-01 was a Saturday, here 5
    hour = times % DAY // (DAY // 24)
    assert (weekday >= 5).sum() / 2 < 0.7 * (weekday < 5).sum() / 5
    assert (hour < 6).sum() < 0.4 * ((hour >= 12) & (hour < 18)).sum()


def test_a_few_write_much_and_most_little() -> None:
    posts = tables(posts=20_000)["posts"]
    per_author = np.sort(posts["user_id"].value_counts().field("counts").to_numpy())[::-1]
    assert per_author[: len(per_author) // 20].sum() > 0.35 * len(posts)
    assert np.median(per_author) < per_author.mean() / 2
    assert len(per_author) < 0.75 * 2_000, "some never write"


def test_it_may_cover_fewer_days() -> None:
    made: dict[str, list[pa.Table]] = {"users": [], "posts": []}
    for name, table in make_tables(2_000, 6_000, 7, until=UNTIL, days=60):
        made[name].append(table)
    for name, parts in made.items():
        times = plain_times(pa.concat_tables(parts))
        assert len(times) > 0.9 * {"users": 2_000, "posts": 6_000}[name]
        assert (times >= instant(UNTIL) - 61 * DAY).mean() > 0.95, "the others are dirt"


def test_posts_come_in_chunks_that_know_nothing_of_each_other() -> None:
    sizes = [table.num_rows for name, table in make_tables(300, 120_001, until=UNTIL) if name == "posts"]
    assert sizes == [50_000, 50_000, 20_001]


def test_time_ends_where_it_is_asked_to() -> None:
    late = expected_counts(2_000, 6_000)
    for name, table in tables().items():
        times = table["created_at"].drop_null().to_numpy()
        soon = (times >= instant(UNTIL)) & (times <= instant(UNTIL + timedelta(hours=13)))
        assert 0 < soon.sum() <= late[name].late
