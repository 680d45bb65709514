"""What a night reads beside what changed: nothing that it leaves as it was would come out otherwise in a full one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tasks.cleaning.user_index import UserIndex, index_schema
from tasks.contracts import POSTS, TABLES, USERS, Table
from tasks.incremental.gather import FEW, ROUNDS, Gathered, gather
from tasks.incremental.mode import GoFull
from tasks.retry import GiveUp
from tasks.source.changes import CannotFindChanges, Changes, TooManyChanges

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class User:
    """created: a day; a user without one is rejected."""

    created: int | None
    email: str | None


@dataclass(frozen=True)
class Post:
    author: int | None
    created: int


@dataclass(frozen=True)
class State:
    users: Mapping[int, User]
    posts: Mapping[int, Post]
    comments: Mapping[int, Post] = field(default_factory=dict)

    def of(self, table: Table) -> Mapping[int, Any]:
        return {USERS.name: self.users, POSTS.name: self.posts, "comments": self.comments}.get(table.name, {})

    @property
    def kept(self) -> dict[int, User]:
        return {key: user for key, user in self.users.items() if user.created is not None}

    def first_of(self, key: int) -> int | str | None:
        """Whose duplicate a user is; None for nobody's."""
        if key not in self.kept:
            return "rejected"
        same = [(u.created, k) for k, u in self.kept.items() if u.email and u.email == self.kept[key].email]
        first = min(same, default=(0, key))[1]
        return None if first == key else first

    def seen(self, key: int) -> object:
        """What the rules say of a post by its author."""
        post = self.posts[key]
        return post.created < self.kept[post.author].created if post.author in self.kept else "orphan"  # type: ignore[operator]


def uid(number: int) -> str:
    return str(UUID(int=number))


def day(number: int | None) -> datetime | None:
    return None if number is None else EPOCH + timedelta(days=number)


@dataclass
class Finder:
    """A source that is in the next of these states with each question, and what is stored of the base."""

    base: State
    states: list[State]
    one_instant: bool
    most: list[int] = field(default_factory=list)

    def _now(self) -> State:
        return self.states.pop(0) if len(self.states) > 1 else self.states[0]

    def find(self, table: Table, most: int, rows: int) -> Changes:
        self.most.append(most)
        before, now = self.base.of(table), self._now().of(table)
        listed = {uid(k): 1 if k in now else None for k in {*before, *now} if before.get(k) != now.get(k)}
        return Changes(table, listed, len(now), 0, len(before), 0, 0)

    def fetch(self, table: Table, keys: pa.Array) -> pa.Table:
        now = self._now().of(table)
        wanted = [k for k in sorted(now) if uid(k) in set(keys.to_pylist())]
        return pa.Table.from_pylist([self._raw(k, now[k]) for k in wanted], schema=table.raw_schema)

    @staticmethod
    def _raw(key: int, row: User | Post) -> dict[str, Any]:
        values: dict[str, Any] = {"id": uid(key), "created_at": day(row.created), "_fingerprint": 1}
        if isinstance(row, User):
            return {**values, "email": row.email}
        return {**values, "user_id": None if row.author is None else uid(row.author)}

    def look_up(self, function: str, *, give_up: GiveUp | None = None, **asked: Any) -> Any:
        base, values = self.base, set(asked["p_values"])
        if asked["p_table"] == POSTS.name:
            orphans = function == "etl_orphans_of"
            posts = [k for k in base.posts if (base.seen(k) == "orphan") == orphans]
            return [uid(k) for k in posts if base.posts[k].author is not None and uid(base.posts[k].author) in values]  # type: ignore[arg-type]
        if asked["p_column"] == "email":
            return [uid(k) for k, user in base.kept.items() if user.email in values]
        firsts = {k: base.first_of(k) for k in base.kept}
        return [uid(k) for k, first in firsts.items() if isinstance(first, int) and uid(first) in values]

    def end(self) -> None:
        """Nothing is held."""

    def index(self) -> UserIndex:
        rows = [
            {"id": uid(k), "created_at": day(u.created), "status": "other", "is_duplicate": False, "has_email": False}
            for k, u in sorted(self.base.kept.items())
        ]
        names = index_schema().names
        return UserIndex(pa.Table.from_pylist([dict(zip(names, row.values(), strict=True)) for row in rows],
                                              schema=index_schema()).combine_chunks())  # fmt: skip


def gathered_by(finder: Finder, *, most_share: float = 1, base_rows: int = 0) -> Gathered:
    rows: Mapping[str, int] = defaultdict(lambda: base_rows)
    latest = int((EPOCH + timedelta(days=10_000)).timestamp() * 10**6)
    return gather(finder, finder.index, latest=latest, most_share=most_share, base_rows=rows)


def _days(at: datetime | None) -> int | None:
    return None if at is None else (at - EPOCH).days


def left_by(gathered: Gathered, base: State) -> State:
    """The base with what was read in place of all that was asked for."""
    users = {k: u for k, u in base.users.items() if uid(k) not in gathered.users.asked}
    posts = {k: p for k, p in base.posts.items() if uid(k) not in gathered.posts.asked}
    for row in gathered.users.rows.to_pylist():
        users[UUID(row["id"]).int] = User(_days(row["created_at"]), row["email"])
    for row in gathered.posts.rows.to_pylist():
        author = None if row["user_id"] is None else UUID(row["user_id"]).int
        posts[UUID(row["id"]).int] = Post(author, (row["created_at"] - EPOCH).days)
    return State(users, posts)


USERS_OF = st.dictionaries(
    st.integers(0, 5),
    st.builds(User, st.sampled_from([1, 2, 3, None]), st.sampled_from(["a@x.org", "b@x.org", None])),
)
POSTS_OF = st.dictionaries(st.integers(10, 17), st.builds(Post, st.none() | st.integers(0, 6), st.integers(0, 4)))
STATES = st.builds(State, USERS_OF, POSTS_OF)


ANN, ANNS_POST = {0: User(1, "a@x.org")}, {10: Post(0, 2)}
BOTH = {**ANN, 1: User(2, "a@x.org")}


@example(
    base=State(ANN, ANNS_POST), states=[State({}, ANNS_POST)], one_instant=True
)  # the first user of the index goes
@example(base=State(BOTH, {}), states=[State({1: BOTH[1]}, {})], one_instant=True)
@example(base=State({1: BOTH[1]}, {}), states=[State(BOTH, {})], one_instant=True)
@settings(max_examples=150)
@given(base=STATES, states=st.lists(STATES, min_size=1, max_size=6), one_instant=st.booleans())
def test_what_is_not_read_is_as_a_full_night_would_find_it(base: State, states: list[State], one_instant: bool) -> None:
    """Over REST rows change while they are read: what is left is consistent in itself all the same."""
    finder = Finder(base, states[:1] if one_instant else list(states), one_instant)
    try:
        gathered = gathered_by(finder)
    except GoFull:
        assert len(states) > 1
        assert not one_instant
        return
    left = left_by(gathered, base)
    if len(states) == 1 or one_instant:
        assert left == states[0]
    for key in base.users:
        assert uid(key) in gathered.users.asked or left.first_of(key) == base.first_of(key)
    for key in base.posts:
        assert uid(key) in gathered.posts.asked or left.seen(key) == base.seen(key)
    assert base != states[0] or len(states) > 1 or not (gathered.users.asked | gathered.posts.asked)


def with_posts(changed: int, rows: int) -> Finder:
    """A base of so many posts by one user, of which the first few changed."""
    users = {0: User(1, None)}
    posts = {10 + n: Post(0, 2) for n in range(rows)}
    now = State(users, {**posts, **{10 + n: Post(0, 3) for n in range(changed)}})
    return Finder(State(users, posts), [now], one_instant=True)


@pytest.mark.parametrize(("most_share", "rows", "few"), [(0.05, 3_000, 150), (0.05, 500, FEW), (1, 300, 300)])
def test_a_share_of_the_rows_may_change_and_a_hundred_of_them(most_share: float, rows: int, few: int) -> None:
    whole = with_posts(few, rows)
    fewer = State(whole.base.users, {k: post for k, post in whole.base.posts.items() if k >= 10 + few})
    gone, new = Finder(whole.base, [fewer], one_instant=True), Finder(fewer, [whole.base], one_instant=True)
    for finder in (whole, gone, new):
        assert len(gathered_by(finder, most_share=most_share).posts.asked) == few
    if few < rows:
        with pytest.raises(
            GoFull, match=r"more than 5% of posts changed or depend on a change \(ETL_MAX_CHANGED_SHARE\)"
        ):
            gathered_by(with_posts(few + 1, rows), most_share=most_share)


def test_posts_that_depend_on_a_changed_user_count_too() -> None:
    finder = with_posts(0, 3_000)
    finder.states = [State({0: User(3, None)}, finder.base.posts)]
    with pytest.raises(GoFull, match="more than 99% of posts changed or depend"):
        gathered_by(finder, most_share=0.99)
    assert len(gathered_by(finder, most_share=1).posts.asked) == 3_000


def test_changes_of_a_further_table_count_too(monkeypatch: pytest.MonkeyPatch) -> None:
    comments = replace(POSTS, name="comments", clean="clean_comments")
    monkeypatch.setattr("tasks.incremental.gather.FURTHER_TABLES", (comments,))
    before = {n: Post(None, 2) for n in range(3_000)}
    now = State({}, {}, {**before, **{n: Post(None, 3) for n in range(151)}})
    finder = Finder(State({}, {}, before), [now], one_instant=True)
    (found,) = gathered_by(finder, most_share=0.051).further
    assert len(found.asked) == 151
    with pytest.raises(GoFull, match="more than 5% of comments changed"):
        gathered_by(finder, most_share=0.05)


def test_the_search_ends_where_the_share_is_certain() -> None:
    """The source has at most the rows of before and those that changed: of 900 and 100 a tenth changed."""
    finder = with_posts(0, 10)
    gathered_by(finder, most_share=0.1, base_rows=900)
    gathered_by(finder, most_share=1, base_rows=900)
    assert finder.most == [FEW + 100] * len(TABLES) + [2**31] * len(TABLES)


@pytest.mark.parametrize(
    ("raised", "words"), [(TooManyChanges(), "more than 100% of posts"), (CannotFindChanges("one key"), "^one key$")]
)
def test_what_cannot_be_found_is_read(raised: Exception, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    finder = with_posts(0, 10)
    monkeypatch.setattr(finder, "find", lambda *_: (_ for _ in ()).throw(raised))
    with pytest.raises(GoFull, match=words):
        gathered_by(finder)


def handed_on(times: int) -> Finder:
    """Orphans of the base, one of which is listed. When it is read its author is a user who has just come, who is named
    by another orphan, which has another author when it is read; and so on."""
    base = State({}, {10 + n: Post(n, 2) for n in range(9)})
    searched = State({}, {**base.posts, 10: Post(0, 3)})
    handed = {10 + n: Post(n + 1, 2) for n in range(times)}
    read = State({n: User(1, None) for n in range(1, times + 1)}, {**base.posts, **handed})
    return Finder(base, [searched] * len(TABLES) + [read], one_instant=False)


def test_what_is_found_on_the_way_is_followed_for_a_few_rounds() -> None:
    finder = handed_on(ROUNDS - 1)
    gathered = gathered_by(finder)
    assert gathered.rounds == ROUNDS
    assert left_by(gathered, finder.base) == finder.states[0]
    with pytest.raises(GoFull, match="dependent rows kept appearing in 5 rounds"):
        gathered_by(handed_on(ROUNDS))


def test_an_orphan_is_read_again_after_its_author_was_not_there() -> None:
    """It may be gone by then, with its author."""
    posts = {10: Post(0, 2)}
    listed, read, gone = State({}, posts), State({}, posts), State({}, {})
    finder = Finder(State({}, {}), [listed] * len(TABLES) + [read, read, gone], one_instant=False)
    gathered = gathered_by(finder)
    assert left_by(gathered, finder.base) == gone
    assert gathered.users.asked == {uid(0)}, "whether it is there is known of its author, too"
