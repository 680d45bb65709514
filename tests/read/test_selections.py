"""Which columns, months, rows and days: given in any type that holds them, and never other data than was asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

from tasks.errors import ConfigurationError, ReadError
from tasks.files.manifest import Manifest, ManifestRef, sha256_of
from tasks.files.parquet import file_schema
from tasks.platform.bucket import Bucket
from tasks.publish.pointer import repair_pointer
from tasks.publish.upload import publish
from tasks.read import diff, list_runs, open_run, read_history, read_report, read_table, run_before
from tasks.read.options import table_named
from tasks.reports.figures import RunCounts, TableCounts
from tasks.settings import Settings
from tests.publish.builders import AS_OF, SNAPSHOT_AT, make_workspace
from tests.read.conftest import EARLIER, LATER, Bucketful, later_of

MONTHS = ["2025-07", "2025-09"]
HISTORIES = ["user_statistics", "daily_activity"]  # with a column as_of of its own, and without
HOLDERS: list[Callable[[list[str]], Iterable[str]]] = [
    tuple, iter, lambda names: map(str, names), np.array, pd.Index, pd.Series, lambda names: [*names, *names],
]  # fmt: skip


@pytest.mark.parametrize("hold", HOLDERS)
def test_names_are_taken_from_whatever_holds_them_and_each_once(
    published: Bucketful, hold: Callable[[list[str]], Any]
) -> None:
    settings = published.settings
    posts = read_table("posts", months=MONTHS, settings=settings)
    assert read_table("posts", months=hold(MONTHS), settings=settings).equals(posts)
    with open_run(settings=settings) as run:
        assert run.table("posts", months=hold(MONTHS)).equals(posts)
    names = ["posts", "date"]
    report = read_report("daily_activity", columns=hold(names), settings=settings)
    assert (report.columns.tolist(), len(report)) == (names, 245)
    history = read_history("daily_activity", columns=hold(names), engine="polars", settings=settings)
    assert (history.columns, len(history)) == (["as_of", *names], 490)
    assert read_table("posts", columns=hold(["id"]), settings=settings).columns.tolist() == ["id"]


def test_an_empty_list_selects_nothing(published: Bucketful) -> None:
    settings = published.settings
    assert read_report("daily_activity", columns=[], settings=settings).shape == (245, 0)
    assert read_report("daily_activity", columns=[], engine="arrow", settings=settings).shape == (245, 0)
    assert read_report("daily_activity", columns=[], filters=[("posts", ">", 60)], settings=settings).shape[0] < 245
    assert read_table("posts", columns=[], settings=settings).shape == (400, 0)
    assert read_history("daily_activity", columns=[], settings=settings).columns.tolist() == ["as_of"]
    none = read_table("posts", months=[], engine="arrow", settings=settings)
    assert none.num_rows == 0
    assert none.schema.remove_metadata().equals(file_schema(table_named("posts")).remove_metadata())
    assert read_table("posts", months=[], columns=[], settings=settings).shape == (0, 0)
    with pytest.raises(ConfigurationError, match="cannot be applied to posts"):
        read_table("posts", months=[], filters=[("nope", "=", 1)], settings=settings)


@pytest.mark.parametrize("name", HISTORIES)
def test_a_history_of_as_of_alone_has_all_its_rows(published: Bucketful, name: str) -> None:
    whole = read_history(name, settings=published.settings)
    for columns in (["as_of"], []):
        found = read_history(name, columns=columns, settings=published.settings)
        assert found.equals(whole[["as_of"]])


@pytest.mark.parametrize("name", HISTORIES)
def test_a_history_is_filtered_by_as_of_like_by_any_column(published: Bucketful, name: str) -> None:
    settings = published.settings
    whole = read_history(name, settings=settings)
    later = read_history(name, filters=[("as_of", ">", EARLIER.as_of)], settings=settings)
    assert later.equals(whole[whole["as_of"] == LATER.as_of].reset_index(drop=True))
    both = [[("as_of", "=", EARLIER.as_of)], [("as_of", "=", LATER.as_of)]]
    assert read_history(name, filters=both, columns=[], settings=settings).shape == (len(whole), 1)
    with pytest.raises(ConfigurationError, match=rf"cannot be applied to {name}"):
        read_history(name, filters=[("as_of", ">", "2026")], settings=settings)


def test_filters_may_be_an_iterator(published: Bucketful) -> None:
    once: Any = iter  # a type checker refuses it; a notebook has none
    settings, filters = published.settings, [("word_count", ">", 60), ("is_before_signup", "=", False)]
    posts = read_table("posts", filters=filters, settings=settings)
    assert 0 < len(posts) < 400
    assert read_table("posts", filters=once(filters), settings=settings).equals(posts)
    daily = [("posts", ">", 60)]
    history = read_history("daily_activity", filters=once(daily), settings=settings)
    assert history.equals(read_history("daily_activity", filters=daily, settings=settings))


@pytest.mark.parametrize("days", [0, -1, True, "x", 1.5, None])
def test_days_is_a_whole_number_of_at_least_one(published: Bucketful, days: Any) -> None:
    reads: list[Callable[..., object]] = [list_runs, lambda **given: read_history("daily_activity", **given)]
    for read in reads:
        with pytest.raises(ConfigurationError, match=r"days is .*; it is a whole number of at least 1"):
            read(days=days, settings=published.settings)


def test_days_may_be_of_any_integer_type(published: Bucketful) -> None:
    settings = published.settings
    one: Any = np.int64(1)
    assert list_runs(days=one, settings=settings)["run_id"].tolist() == ["later"]
    assert set(read_history("daily_activity", days=one, settings=settings)["as_of"]) == {pd.Timestamp(LATER.as_of)}


@pytest.mark.parametrize("day", [date(2026, 1, 30), EARLIER.as_of, pd.Timestamp(EARLIER.as_of), "2026-01-30"])
def test_a_run_to_compare_with_may_be_a_day_or_an_instant(published: Bucketful, day: date | str) -> None:
    settings = published.settings
    assert diff("daily_activity", day, settings=settings).base.run_id == "earlier"
    assert diff("daily_activity", "later", day, settings=settings).run.run_id == "earlier"
    after: Any = day + timedelta(days=1) if isinstance(day, date) else "2026-01-31"
    assert run_before(after, settings=settings) == published.earlier.run_path


def test_a_run_as_of_now_is_before_the_midnight_that_started_after_it(changeable: Bucketful, tmp_path: Path) -> None:
    settings = changeable.settings
    midnight = later_of(run_id="midnight", as_of=EARLIER.as_of, snapshot_at=SNAPSHOT_AT + timedelta(hours=1))
    ref = publish(settings, make_workspace(tmp_path, "midnight", users=40, posts=40), midnight, [], RunCounts())
    assert run_before("midnight", settings=settings) == changeable.later.run_path
    assert run_before("later", settings=settings) == changeable.earlier.run_path
    assert ref.run_path < changeable.later.run_path, "its day is an earlier one"


def test_what_cannot_be_a_run_is_a_sentence(published: Bucketful) -> None:
    given: Any = 5
    reads: list[Callable[[Settings], object]] = [
        lambda settings: read_report("daily_activity", run=given, settings=settings),
        lambda settings: diff("daily_activity", given, settings=settings),
        lambda settings: diff("daily_activity", "later", given, settings=settings),
        lambda settings: run_before(given, settings=settings),
    ]
    for read in reads:
        with pytest.raises(ConfigurationError, match=r"run is 5"):
            read(published.settings)
    nothing: Any = None
    with pytest.raises(ConfigurationError, match="no base to compare with"):
        diff("daily_activity", nothing, settings=published.settings)


def test_an_instant_without_a_run_is_answered_with_those_of_its_day(published: Bucketful) -> None:
    with pytest.raises(ReadError, match=r"The runs of 2026-01-31 are as of 2026-02-01T00:00:00\+00:00\.") as caught:
        read_report("daily_activity", as_of="2026-01-31T18:15Z", settings=published.settings)
    assert "nearest" not in str(caught.value)
    assert "the day 2026-01-31" in caught.value.remedy


def test_a_day_to_come_cannot_be_made_by_a_run(published: Bucketful) -> None:
    with pytest.raises(ReadError, match="The nearest day with a run: 2026-01-31") as caught:
        read_report("daily_activity", as_of="2999-01-01", settings=published.settings)
    assert "--as-of" not in caught.value.remedy


@pytest.mark.parametrize("as_of", ["0001-01-01T00:00+05:45", "0001-01-01T00:00Z", "9999-12-31T23:00-05:00"])
def test_an_instant_outside_the_calendar_is_a_sentence(published: Bucketful, as_of: str) -> None:
    for given in (as_of, datetime.fromisoformat(as_of)):
        with pytest.raises(ConfigurationError, match="outside the years 1 to 9999"):
            read_report("daily_activity", as_of=given, settings=published.settings)


def test_a_table_without_rows_is_an_empty_frame(changeable: Bucketful) -> None:
    settings = changeable.settings
    _change(changeable, kept=0)
    posts = read_table("posts", settings=settings)
    assert posts.dtypes.equals(read_table("posts", run="earlier", settings=settings).dtypes)
    assert posts.empty
    assert posts.attrs["run_id"] == "later"
    arrow = read_table("posts", columns=["id"], engine="arrow", settings=settings)
    assert arrow.schema.field("id").equals(file_schema(table_named("posts")).field("id"), check_metadata=True)
    polars = read_table("posts", filters=[("word_count", ">", 3)], engine="polars", settings=settings)
    assert isinstance(polars, pl.DataFrame)
    assert polars.shape == (0, len(posts.columns))
    with pytest.raises(ReadError, match="does not have posts of 2025-07"):
        read_table("posts", months=["2025-07"], settings=settings)


@pytest.mark.parametrize("changes", [{"kept": 3}, {"kept": None}, {"kept": 0, "pruned": True}])
def test_a_table_whose_files_are_missing_is_not_an_empty_one(changeable: Bucketful, changes: dict[str, Any]) -> None:
    _change(changeable, **changes)
    with pytest.raises(ReadError, match=r"cleaned table posts"):
        read_table("posts", settings=changeable.settings)


def _change(bucketful: Bucketful, *, kept: int | None, pruned: bool = False) -> None:
    """The manifest of `later` as that of a run without posts' files; kept: how many posts it says it kept."""
    with Bucket(bucketful.settings) as bucket:
        manifest = Manifest.model_validate_json(bucket.download(bucketful.later.path))
        posts = {entry.path for entry in manifest.files if entry.path.startswith("clean/posts/")}
        tables = {} if kept is None else {"posts": TableCounts(read=kept, kept=kept)}
        counts = RunCounts(tables=tables)
        files = tuple(entry for entry in manifest.files if entry.path not in posts)
        changed = manifest.model_copy(update={"files": files, "counts": counts})
        if pruned:
            changed = changed.without({"clean/users/part-000.parquet"}, at=AS_OF)
        bucket.replace(bucketful.later.path, changed.to_json())
        bucket.remove(["latest.json"])
    repair_pointer(bucketful.settings, ManifestRef(path=bucketful.later.path, sha256=sha256_of(changed.to_json())))
