"""Two runs compared: 200 random cases of planted edits come back exactly, and the same through the real Storage."""

from __future__ import annotations

import dataclasses
import math
import random
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from flows.compare import compare_runs
from flows.forms import CompareForm
from tasks.contracts import REPORTS, Column, Report
from tasks.errors import ConfigurationError, ReadError
from tasks.files.run_files import write_files
from tasks.publish.upload import publish
from tasks.read import diff, open_run, read_report
from tasks.read.difference import Difference, compare
from tasks.reports.figures import RunCounts
from tests.publish.builders import AS_OF, make_workspace
from tests.read.conftest import Bucketful, later_of

KEYED = [report for report in REPORTS if report.keys != ("as_of",)]
Rows = dict[tuple[Any, ...], dict[str, Any]]


def _value(rng: random.Random, column: Column) -> Any:
    if column.nullable and rng.random() < 0.3:
        return None
    match column.kind:
        case "date":
            return date(2026, 1, 1) + timedelta(days=rng.randrange(400))
        case "timestamptz":
            return AS_OF + timedelta(microseconds=rng.randrange(10**12))
        case "int" | "bigint":
            return rng.randrange(-3, 100)
        case "float":
            return rng.choice([math.nan, 0.0, rng.random(), -rng.random()])
        case "bool":
            return rng.random() < 0.5
        case _:
            return f"{rng.randrange(10**9):x}"


def _same(left: Any, right: Any) -> bool:
    """Equal as a reader sees it: NaN is NaN, null is null."""
    nan = [isinstance(value, float) and math.isnan(value) for value in (left, right)]
    return all(nan) or (left == right and (left is None) == (right is None))


def _random_rows(rng: random.Random, report: Report, rows: int) -> Rows:
    """Rows by their keys."""
    found: Rows = {}
    for _ in range(rows):
        row = {column.name: _value(rng, column) for column in report.columns}
        found[tuple(row[key] for key in report.keys)] = row
    return found


def _table(rng: random.Random, report: Report, rows: Rows) -> pa.Table:
    shuffled = list(rows.values())
    rng.shuffle(shuffled)
    return pa.Table.from_pylist(shuffled, schema=report.schema)


def _planted(rng: random.Random, report: Report) -> tuple[Rows, Rows]:
    """A base, and the same with rows removed, added and changed, sometimes none at all."""
    base = _random_rows(rng, report, rng.randrange(40))
    run = {key: dict(row) for key, row in base.items() if rng.random() < rng.choice([1, 0.8])}
    values = [column for column in report.columns if column.name not in report.keys]
    for row in run.values():
        for column in values:
            if rng.random() < 0.1:
                row[column.name] = _value(rng, column)
    run.update({k: r for k, r in _random_rows(rng, report, rng.randrange(8)).items() if k not in base})
    return base, run


@pytest.mark.parametrize("seed", range(200))
def test_planted_edits_come_back_exactly(seed: int) -> None:
    rng = random.Random(seed)
    report = KEYED[seed % len(KEYED)]
    base, run = _planted(rng, report)
    found = compare(_table(rng, report, base), _table(rng, report, run), report.keys)
    _assert_rows(found.added, {key: row for key, row in run.items() if key not in base}, report)
    _assert_rows(found.removed, {key: row for key, row in base.items() if key not in run}, report)
    _assert_changed(found, base, run, report)


def _assert_rows(table: pa.Table, expected: Rows, report: Report) -> None:
    assert table.schema.names == report.schema.names
    rows = table.to_pylist()
    assert [tuple(row[key] for key in report.keys) for row in rows] == sorted(expected)
    for row in rows:
        of = expected[tuple(row[key] for key in report.keys)]
        assert all(_same(row[name], of[name]) for name in row)


def _assert_changed(found: Difference, base: Rows, run: Rows, report: Report) -> None:
    edits = {
        (key, name): (base[key][name], row[name])
        for key, row in run.items()
        if key in base
        for name in row
        if not _same(base[key][name], row[name])
    }
    rows = found.changed.to_pylist()
    assert [tuple(row[key] for key in report.keys) for row in rows] == sorted({key for key, _ in edits})
    assert set(found.cells) == {name for _, name in edits}
    for name, count in found.cells.items():
        assert count == sum(edited == name for _, edited in edits)
        assert found.changed.schema.field(f"{name}_old").type == report.schema.field(name).type
    for row in rows:
        key = tuple(row[name] for name in report.keys)
        for name in found.cells:
            old, new = edits.get((key, name), (base[key][name], run[key][name]))
            assert _same(row[f"{name}_old"], old)
            assert _same(row[f"{name}_new"], new)


def test_a_column_of_another_type_is_compared_as_text_and_one_sided_columns_are_not() -> None:
    base = pa.table({"k": [1, 2], "v": pa.array([1, 2], pa.int64()), "gone": ["a", "b"]})
    run = pa.table({"k": [1, 2], "v": pa.array(["1", "3"]), "came": [0, 0]})
    found = compare(base, run, ["k"])
    assert found.changed.to_pylist() == [{"k": 2, "v_old": 2, "v_new": "3"}]
    assert found.cells == {"v": 1}
    as_text = base.set_column(0, "k", base["k"].cast(pa.string()))  # the key's type changed
    again = compare(as_text, run, ["k"])
    assert (again.changed.to_pylist(), again.cells) == (found.changed.to_pylist(), found.cells)


def test_two_runs_in_the_bucket(published: Bucketful) -> None:
    settings = published.settings
    found = diff("daily_activity", "earlier", "later", settings=settings)
    assert (found.base.run_id, found.run.run_id, found.keys) == ("earlier", "later", ("date",))
    assert found
    before, after = (read_report("daily_activity", run=run, settings=settings) for run in ("earlier", "later"))
    both = before.merge(after, on="date", suffixes=("_old", "_new"))
    assert found.cells["posts"] == (both["posts_old"] != both["posts_new"]).sum()
    expected = both.set_index("date").loc[found.changed["date"], ["posts_old", "posts_new"]]
    pd.testing.assert_frame_equal(found.changed.set_index("date")[["posts_old", "posts_new"]], expected)
    assert found.added.empty
    assert found.removed.empty
    for choice in (("2026-01-30", "2026-01-31"), (published.earlier.run_path, None)):
        other = diff("daily_activity", *choice, settings=settings)
        assert other.changed.equals(found.changed)
    assert diff("author_activity", "earlier", settings=settings, engine="arrow").added.num_rows == 40
    assert isinstance(diff("author_activity", "earlier", settings=settings, engine="polars").removed, pl.DataFrame)


@pytest.mark.parametrize(
    ("base", "run", "found"), [("latest", "previous", ("later", "earlier")), ("later", "latest", ("later", "later"))]
)
def test_the_words_of_the_form_mean_the_same_in_both_fields(
    published: Bucketful, base: str, run: str, found: tuple[str, str]
) -> None:
    """The form takes them in both; in the other one a word was a run that there is not."""
    difference = compare_runs.fn(published.settings, CompareForm(base=base, run=run))
    assert (difference.base.run_id, difference.run.run_id) == found


def test_the_report_of_one_row_a_run_is_compared_by_that_row(published: Bucketful) -> None:
    found = diff("user_statistics", "earlier", engine="arrow", settings=published.settings)
    assert (found.added.num_rows, found.removed.num_rows, found.changed.num_rows) == (0, 0, 1)
    assert pc.not_equal(found.changed["total_posts_old"], found.changed["total_posts_new"]).to_pylist() == [True]
    assert found.keys == ("as_of",)


def test_equal_files_are_not_read(changeable: Bucketful, tmp_path: Path) -> None:
    settings = changeable.settings.model_copy(update={"cache_dir": tmp_path / "other"})
    workspace = make_workspace(tmp_path, "again", users=40, posts=400, seed=1)
    files = [e for e in write_files(workspace, as_of=AS_OF, settings=settings) if e.kind == "report"]
    publish(settings, workspace, later_of(run_id="again"), files, RunCounts())
    found = diff("daily_activity", "again", "later", settings=settings)
    assert found.identical
    assert not found
    assert found.changed.columns.tolist() == ["date"]
    assert not list(settings.cache_dir.glob("*.parquet"))


def test_an_open_run_can_be_compared(published: Bucketful) -> None:
    with open_run(settings=published.settings) as run:
        found = diff("signup_cohorts", "earlier", run, settings=published.settings)
        assert repr(run).startswith("<OpenRun later, as of 2026-")
    assert found.run.run_id == "later"
    assert repr(found).startswith("<Diff of signup_cohorts, earlier → later: "), "a line, not two manifests"
    assert "\n" not in repr(found)
    assert dataclasses.replace(found, changed=found.changed).cells == found.cells


def test_wrong_questions(published: Bucketful) -> None:
    settings = published.settings
    with pytest.raises(ReadError, match="There is no run 'nobody'"):
        diff("daily_activity", "nobody", settings=settings)
    with pytest.raises(ConfigurationError, match="no report 'daily'"):
        diff("daily", "earlier", settings=settings)
    with pytest.raises(TypeError, match="Did you mean 'settings'"):
        diff("daily_activity", "earlier", setting=settings)  # type: ignore[call-overload]
