"""Reports and cleaned tables equal an independent recomputation in SQL, whatever the rows and however they are cut."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.cleaning.partials import AUTHOR_DAYS
from tasks.cleaning.pieces import PartialTable
from tasks.cleaning.rules import RULES
from tasks.contracts import (
    AUTHOR_ACTIVITY,
    DAILY_ACTIVITY,
    DATA_QUALITY,
    POST_STATISTICS,
    POSTS,
    REJECT_SCHEMA,
    REPORTS,
    SIGNUP_COHORTS,
    TABLES,
    USER_STATISTICS,
    USERS,
    Table,
)
from tasks.files.state import write_state
from tests.cleaning.spools import (
    AS_OF,
    SNAPSHOT_AT,
    Row,
    all_reports,
    at,
    cleaned,
    make_run,
    post,
    small_pieces,
    uid,
    user,
)
from tests.reports.recompute import assert_same_everywhere, not_derived, recomputed

DAY = timedelta(days=1)
OF_NO_ROWS = {
    USER_STATISTICS: 1,
    DAILY_ACTIVITY: 0,
    AUTHOR_ACTIVITY: 0,
    SIGNUP_COHORTS: 0,
    POST_STATISTICS: 0,
    DATA_QUALITY: sum(len(rules) for rules in RULES.values()),
}


def check(folder: Path, users: list[Row], posts: list[Row], **when: Any) -> dict[str, Any]:
    workspace, counts = make_run(folder, users, posts, **when)
    when = {"as_of": when.get("as_of", AS_OF), "snapshot_at": when.get("began", SNAPSHOT_AT)}
    with recomputed(users, posts, **when) as connection:
        assert_same_everywhere(workspace, connection)
    for table in TABLES:
        of, rejects = counts[table.name], workspace.spool("rejects", table.name, REJECT_SCHEMA).table()
        assert (of.kept, of.rejected) == (len(cleaned(workspace, table)), rejects.num_rows)
    reports, posts_counted = all_reports(workspace), counts["posts"]
    total = reports["user_statistics"]["total_posts"][0].as_py()
    assert posts_counted.in_scope.after_as_of == posts_counted.kept - total
    return reports


def test_all_is_derived_a_second_time() -> None:
    lacking = not_derived()
    assert not lacking, (
        "tests/reports/definitions.sql does not derive " + ", ".join(lacking) + ". Write there in SQL what each is by "
        "its definition, not by its code: these tests compare the two on rows of every kind."
    )


def test_empty_sources_give_columns_and_no_rows(tmp_path: Path) -> None:
    reports = check(tmp_path, [], [])
    assert {report: reports[report.name].num_rows for report in OF_NO_ROWS} == OF_NO_ROWS
    head = reports["user_statistics"].to_pylist()[0]
    assert {name for name, value in head.items() if value is None} == {
        "posts_per_user_mean",
        "posts_per_author_median",
        "posts_per_author_p90",
        "posts_per_author_p99",
        "posts_per_author_max",
    }
    for report in REPORTS:
        assert reports[report.name].schema == report.schema


def test_a_single_user_without_posts_and_with_an_early_one(tmp_path: Path) -> None:
    reports = check(tmp_path, [user(1)], [])
    assert reports["daily_activity"].num_rows == 40
    assert reports["signup_cohorts"].to_pylist()[0]["retention"] == 0.0
    assert check(tmp_path, [user(1)], [post(1, 1, created_at=AS_OF - 50 * DAY)])["daily_activity"].num_rows == 50


HOSTILE_USERS = [
    user(1, created_at=at("2024-02-29T23:59:59.999999"), email="Ann@Example.com"),
    user(2, created_at=at("2024-03-01T00:00:00"), email=" ann@example.com\u200b"),
    user(3, created_at=at("2024-02-29T23:59:59.999999"), email="ANN@EXAMPLE.COM", status=" INACTIVE\t"),
    user(4, email="ann@example.com\r\n", status="in active", updated_at=None),
    user(5, email="\ufeffaNN@example.COM", status=None),
    user(6, email="a@b", name="\u200f\u202eabc\u202c", bio="a\r\nb\rc\td\x00\x85e".replace("\x00", "")),
    user(7, email="a@b.c d"),
    user(8, email="a@b..c"),
    user(9, email="a@@b.c"),
    user(10, email="é@ü.de", name="e\u0301 \u1100\u1161\u11a8 \u212b"),
    user(11, email="x" * 250 + "@b.c", bio=" \u3000\u2028 "),
    user(12, email="x" * 251 + "@b.c", name=""),
    user(13, email=None, name="👩\u200d👩\u200d👧 \u200dü\u0308\u2067x\u2069", status="ACTIVE"),
    user(14, created_at=None, updated_at=None),
    user(15, created_at=SNAPSHOT_AT + DAY),
    user(16, created_at=SNAPSHOT_AT + DAY + timedelta(microseconds=1)),
    user(17, _invalid="created_at: infinity", created_at=None),
    user(18, created_at=AS_OF),
    user(19, created_at=AS_OF - timedelta(microseconds=1), updated_at=at("1970-01-01T00:00:00")),
    user(20, created_at=at("1970-01-01T00:00:00"), status="aCtIvE", email="ı@K.com"),
    user(21, created_at=AS_OF - 30 * DAY),
    user(22, created_at=AS_OF - 7 * DAY),
    user(23, created_at=AS_OF - DAY),
    user(24, created_at=AS_OF - DAY - timedelta(microseconds=1)),
    user(25, email="@b.c", status=""),
    user(26, email="a@b.c.d", status="ACTİVE"),
    user(27, email="a@b.c."),
    user(28, email="a@b@c.d"),
    user(29, email="é" * 249 + "@b.cd"),
    user(30, email="É@Ü.DE"),
    user(31, email="same@b.co", created_at=AS_OF - 9 * DAY),
    user(32, email="same@b.co", created_at=AS_OF - 10 * DAY),
    user(33, email="same@b.co", created_at=AS_OF - 10 * DAY),
]
HOSTILE_POSTS = [
    post(1, 1, created_at=at("2024-02-29T00:00:00"), title="\u2028"),
    post(2, 1, created_at=at("2025-03-30T00:59:59"), content="one\u00a0two\u2003three\u3000four\u0085five\u1680six"),
    post(3, 1, created_at=at("2025-03-30T01:00:00"), content="\u200bcrème\u0301 \n\n tail \r"),
    post(4, 2, created_at=at("2025-10-26T00:30:00"), content=None),
    post(5, 2, created_at=at("2025-10-26T01:30:00"), content="  \t\n "),
    post(6, 3, created_at=at("1999-12-31T23:59:59.999999"), content="before \x1b[31m everything\x7f"),
    post(7, 3, created_at=at("2024-03-01T00:00:00")),
    post(8, 3, created_at=at("2024-03-02T00:00:00"), updated_at=at("2024-03-01T00:00:00")),
    post(9, 3, created_at=at("2024-03-04T00:00:00"), updated_at=None),
    post(10, None),
    post(11, 999),
    post(12, 17),
    post(13, 14),
    post(14, 18, created_at=AS_OF - DAY),
    post(15, 18, created_at=AS_OF),
    post(16, 13, created_at=AS_OF),
    post(17, 13, created_at=AS_OF - timedelta(microseconds=1), content="שלום עולם مرحبا"),
    post(18, 13, created_at=AS_OF - 7 * DAY),
    post(19, 13, created_at=None),
    post(20, 13, created_at=SNAPSHOT_AT + DAY + timedelta(microseconds=1)),
    post(21, 13, _invalid="content: before 1970"),
    post(22, 6, title="\u2066a\u2069\t b\nc", content="\u180e\u200c x \u2060"),
    post(23, 20, created_at=at("1970-01-01T00:00:00")),
    post(24, 1, created_at=at("1970-01-01T00:00:00")),
    post(25, 1, created_at=at("1970-01-05T00:00:00"), content=None),
    post(26, 22, created_at=AS_OF - 3 * DAY),
    post(27, 23, created_at=AS_OF - 2 * DAY),
    post(28, 24, created_at=AS_OF - 3 * DAY),
]


@pytest.mark.parametrize(
    "as_of",
    [
        *(AS_OF, SNAPSHOT_AT, at("2025-10-26T01:30:00.000001"), at("2024-03-01T00:00:00.000001")),
        *(at("2024-02-29T00:00:00"), at("1970-01-01T00:00:00")),
    ],
    ids=str,
)
def test_hostile_rows(tmp_path: Path, as_of: datetime) -> None:
    check(tmp_path, HOSTILE_USERS, HOSTILE_POSTS, as_of=as_of)


def test_forty_thousand_posts_by_one_author_in_one_second(tmp_path: Path) -> None:
    second = AS_OF - 2 * DAY
    posts = [
        post(n, 1, created_at=second + timedelta(microseconds=n), title=f"{n} ", content="a " * (n % 11))
        for n in range(40_000)
    ]
    workspace, _ = make_run(tmp_path, [user(1)], posts)
    assert all_reports(workspace)["author_activity"].to_pylist()[0]["post_count"] == 40_000
    with recomputed([user(1)], posts, as_of=AS_OF, snapshot_at=SNAPSHOT_AT) as connection:
        assert_same_everywhere(workspace, connection)


def test_a_text_of_ten_megabytes(tmp_path: Path) -> None:
    long = "wörd\u200b \r\n" * 1_250_000
    workspace, _ = make_run(tmp_path, [user(1)], [post(1, 1, content=long), post(2, 1)])
    assert all_reports(workspace)["daily_activity"].to_pylist()[-3]["words"] == 1_250_002
    assert cleaned(workspace, POSTS)[0]["content"] == ("wörd \n" * 1_250_000).strip()


def test_any_cut_gives_the_same_bytes(tmp_path: Path) -> None:
    cuts = [(), (1, 1, 2, 3, 5, 8, 13), tuple(range(30))]
    runs = [make_run(tmp_path, HOSTILE_USERS, HOSTILE_POSTS, cuts=cut)[0] for cut in cuts]
    states = [write_state(run) for run in runs]
    with small_pieces(work=1):
        runs.append(make_run(tmp_path, HOSTILE_USERS, HOSTILE_POSTS, cuts=cuts[-1])[0])
        states.append(write_state(runs[-1]))
        assert len(PartialTable(runs[-1], AUTHOR_DAYS).spool.files()) > 3, "there are several partitions"
    for report in REPORTS:
        assert len({run.report(report).path(0).read_bytes() for run in runs}) == 1, report.name
    assert len(states[0]) > 10
    assert all(state == states[0] for state in states), "checksums and rows of the files for the next night"


instants = st.one_of(
    st.sampled_from(
        [None, AS_OF, AS_OF - DAY, AS_OF - 7 * DAY, AS_OF - 30 * DAY, SNAPSHOT_AT + DAY, SNAPSHOT_AT + 2 * DAY]
    ),
    st.integers(0, 100 * 24).map(lambda hours: AS_OF - timedelta(hours=hours)),
    st.datetimes(datetime(2024, 1, 1), datetime(2026, 4, 1)).map(lambda moment: at(moment.isoformat())),  # noqa: DTZ001
)
texts = st.one_of(
    st.none(),
    st.text(st.characters(exclude_categories=["Cs", "Cn"], exclude_characters="\x00"), max_size=12),
    st.text("aé \t\r\n\u0301\u00a0\u200b\u200d\u202e\u2028\u3000\x85\x7f각K", max_size=8),
)
emails = st.sampled_from(
    ["a@b.co", "A@B.co", " a@b.co", "c@d.eu", "c@d", "@d.eu", "c@d..eu", "c@.eu", "", None, "a b@c.d"]
)
statuses = st.sampled_from(["active", "Active", "INACTIVE ", "inactive", "gone", "", None])
invalid = st.sampled_from([None] * 12 + ["created_at: infinity", "id: null key"])


def drawn_of(table: Table, draw: st.DrawFn) -> Row:
    """Texts and instants of a row; some are invalid."""
    of = {"email": emails, "status": statuses}
    columns = [column.name for column in table.source_columns if column.kind == "text"]
    values = {name: draw(of.get(name, texts)) for name in columns}
    return values | {"created_at": draw(instants), "updated_at": draw(instants), "_invalid": draw(invalid)}


@st.composite
def sources(draw: st.DrawFn) -> tuple[list[Row], list[Row]]:
    count, many = draw(st.integers(0, 8)), draw(st.integers(0, 25))
    users: list[Row] = [{"id": uid(n)} | drawn_of(USERS, draw) for n in range(count)]
    authors = st.one_of(st.none(), st.integers(0, 9).map(uid))
    posts: list[Row] = [{"id": uid(n), "user_id": draw(authors)} | drawn_of(POSTS, draw) for n in range(many)]
    return users, posts


@settings(max_examples=25, suppress_health_check=[HealthCheck.data_too_large])
@given(
    sources(),
    instants.filter(lambda moment: moment is not None and moment <= SNAPSHOT_AT),
    st.lists(st.integers(0, 25)),
)
def test_whatever_the_rows(drawn: tuple[list[Row], list[Row]], as_of: datetime, cuts: list[int]) -> None:
    users, posts = drawn
    with TemporaryDirectory() as folder:
        whole = check(Path(folder), users, posts, as_of=as_of)
        with small_pieces():
            cut = all_reports(make_run(Path(folder), users, posts, as_of=as_of, cuts=cuts)[0])
        assert all(whole[report.name].equals(cut[report.name]) for report in REPORTS)
