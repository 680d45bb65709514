"""The guard lets a quiet night pass, names what is out of bounds, and lets it pass once it is accepted by name."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from tasks.cleaning.counts import load_counts
from tasks.contracts import (
    AUTHOR_ACTIVITY,
    DAILY_ACTIVITY,
    POST_STATISTICS,
    REPORTS,
    SIGNUP_COHORTS,
    USER_STATISTICS,
    Report,
)
from tasks.errors import ConfigurationError, RunHeld
from tasks.ledger.guard import check_run, find_drift, require_known
from tasks.reports.build import run_counts
from tasks.reports.checks import check_contract, check_totals, in_order
from tasks.reports.figures import RunCounts
from tasks.settings import Settings
from tasks.sink import TablePlan
from tasks.workspace import Workspace
from tests.cleaning.spools import AS_OF, all_reports, make_run, post, user

SETTINGS = Settings(_env_file=None, drift_floor_rows=10)


def planned(deletes: int, rows: int) -> TablePlan:
    return TablePlan(inserts=0, updates=0, deletes=deletes, unchanged=rows - deletes, target_rows=rows)


QUIET = {table: planned(0, 1_000) for table in ("users", "posts")}


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    users = [user(n) for n in range(50)]
    posts = [post(n, n % 40) for n in range(200)]
    return make_run(tmp_path, users, posts)[0]


def check(workspace: Workspace, **changes: Any) -> None:
    given = {"plan": QUIET, "last": None, "settings": SETTINGS, **changes}
    check_run(workspace, run_counts(workspace), **given)


def kept(counts: RunCounts, table: str, rows: int) -> RunCounts:
    """The figures with so many kept rows of a table."""
    of = counts.tables[table].model_copy(update={"kept": rows})
    return counts.model_copy(update={"tables": {**counts.tables, table: of}})


def affected(counts: RunCounts, rule: str, rows: int) -> RunCounts:
    """The figures with so many rows affected by a rule."""
    rules = (
        of.model_copy(update={"affected": rows, "share": rows / of.checked}) if of.rule == rule else of
        for of in counts.rules
    )
    return counts.model_copy(update={"rules": tuple(rules)})


def test_a_first_night_and_a_quiet_one_pass(workspace: Workspace) -> None:
    check(workspace)
    check(workspace, last=RunCounts.model_validate_json(json.dumps(run_counts(workspace).to_json())))


def test_an_empty_project_passes(tmp_path: Path) -> None:
    empty, _ = make_run(tmp_path, [], [])
    check(empty, last=run_counts(empty), plan={table: planned(0, 0) for table in QUIET})


def test_a_drop_is_held_by_name_and_passes_when_accepted(workspace: Workspace) -> None:
    last = kept(run_counts(workspace), "posts", 251)
    with pytest.raises(RunHeld, match=r"posts_drop: 200 posts kept, 20\.3% fewer than the 251 .*bound 20%") as held:
        check(workspace, last=last)
    assert "--accept posts_drop" in held.value.remedy
    check(workspace, last=last, accepted={"posts_drop": 0.203})
    with pytest.raises(RunHeld):
        check(workspace, last=last, accepted={"users_drop": 1.0})


@pytest.mark.parametrize(("table", "before"), [("posts", 250), ("users", 60), ("users", 10), ("posts", 0)])
def test_a_drop_within_its_share_or_its_floor_passes(workspace: Workspace, table: str, before: int) -> None:
    check(workspace, last=kept(run_counts(workspace), table, before))


def test_deletes_are_held_above_share_and_floor(workspace: Workspace) -> None:
    plan = {**QUIET, "users": planned(101, 1_000)}
    with pytest.raises(RunHeld, match=r"users_deletes: 101 of 1,000 rows of clean_users would be deleted, 10\.1%"):
        check(workspace, plan=plan)
    check(workspace, plan=plan, accepted={"users_deletes": 0.101})
    check(workspace, plan={**QUIET, "users": planned(100, 1_000)})
    check(workspace, plan={**QUIET, "users": planned(9, 10)})


def test_a_rule_that_suddenly_bites_is_held(workspace: Workspace) -> None:
    last = run_counts(workspace)
    drifts = find_drift(affected(last, "invalid_email", 12), plan=QUIET, last=last, settings=SETTINGS)
    assert [drift.name for drift in drifts] == ["rule_share:users.invalid_email"]
    assert "24.0 points more" in drifts[0].message
    floor = affected(last, "invalid_email", 10)
    assert not find_drift(floor, plan=QUIET, last=last, settings=SETTINGS)


def test_a_new_rule_has_nothing_to_be_compared_with(workspace: Workspace) -> None:
    counts = run_counts(workspace)
    last = counts.model_copy(update={"rules": tuple(of for of in counts.rules if of.rule != "clean_text")})
    every_row = (
        of.model_copy(update={"affected": of.checked, "share": 1.0 if of.checked else None}) for of in counts.rules
    )
    now = counts.model_copy(update={"rules": tuple(every_row)})
    names = {drift.name for drift in find_drift(now, plan=QUIET, last=last, settings=SETTINGS)}
    assert "rule_share:posts.orphan" in names
    assert "rule_share:posts.clean_text" not in names


def test_every_figure_is_named_at_once(workspace: Workspace) -> None:
    last = kept(kept(run_counts(workspace), "posts", 999), "users", 999)
    with pytest.raises(RunHeld) as held:
        check(workspace, last=last, plan={"posts": planned(500, 900)})
    assert [name in held.value.message for name in ("users_drop", "posts_drop", "posts_deletes")] == [True] * 3


@pytest.mark.parametrize("report", REPORTS, ids=lambda report: report.name)
def test_reports_fit_their_contracts(workspace: Workspace, report: Report) -> None:
    table = all_reports(workspace)[report.name]
    check_contract(report, table)
    with pytest.raises(ConfigurationError, match=report.name):
        check_contract(report, table.rename_columns([f"{name}_" for name in table.schema.names]))
    with pytest.raises(ConfigurationError, match=f"expected {table.schema.names[0]} .* not null"):
        check_contract(report, table.set_column(0, table.schema.names[0], table.column(0)))


def broken(table: pa.Table, column: str, values: Any) -> pa.Table:
    index = table.schema.get_field_index(column)
    return table.set_column(index, table.schema.field(column), values)


@pytest.mark.parametrize(
    ("report", "column", "value"),
    [
        (SIGNUP_COHORTS, "retention", 1.5),
        (SIGNUP_COHORTS, "authors", -1),
        (DAILY_ACTIVITY, "stickiness", -0.1),
        (AUTHOR_ACTIVITY, "status", None),
        (POST_STATISTICS, "words_mean", None),
        (DAILY_ACTIVITY, "date", 0),
    ],
    ids=lambda value: value.name if isinstance(value, Report) else str(value),
)
def test_what_is_out_of_contract_is_an_error(workspace: Workspace, report: Report, column: str, value: object) -> None:
    table = all_reports(workspace)[report.name]
    kind = table.schema.field(column).type
    values = pa.array([value] * table.num_rows, pa.int32() if column == "date" else kind).cast(kind)
    with pytest.raises(ConfigurationError, match=column):
        check_contract(report, broken(table, column, values))


def test_rows_out_of_order_are_an_error(workspace: Workspace) -> None:
    rows = all_reports(workspace)["author_activity"].sort_by([("user_id", "descending")])
    workspace.report(AUTHOR_ACTIVITY).write(0, rows.combine_chunks().to_batches())
    with pytest.raises(ConfigurationError, match="not sorted"):
        check(workspace)


def test_more_ids_than_one_array_holds_are_looked_at_where_they_are() -> None:
    """Sorted to see whether they are sorted, they ended as a defect: an array has 2 GiB of text at most."""
    ids = pa.table({"user_id": ["u" * 2**20]})
    assert in_order(pa.concat_tables([ids] * 2_100), ["user_id"])
    pairs = {second: pa.table({"a": [1, 1, 2], "b": [1, second, 0]}) for second in (0, 2)}
    assert [in_order(table, ["a", "b"]) for table in pairs.values()] == [False, True]


@pytest.mark.parametrize(
    ("report", "column", "total"),
    [
        (DAILY_ACTIVITY, "posts", "posts in scope"),
        (DAILY_ACTIVITY, "new_users", "users in scope"),
        (POST_STATISTICS, "words", "words"),
        (DAILY_ACTIVITY, "new_authors", "posting users"),
        (USER_STATISTICS, "active_users", "users in scope"),
        (SIGNUP_COHORTS, "users", "users in scope"),
        (AUTHOR_ACTIVITY, "post_count", "posts in scope"),
        (POST_STATISTICS, "posts", "posts in scope"),
    ],
    ids=lambda value: value.name if isinstance(value, Report) else str(value),
)
def test_totals_that_disagree_are_an_error(workspace: Workspace, report: Report, column: str, total: str) -> None:
    table = all_reports(workspace)[report.name]
    wrong = broken(table, column, pc.add(table[column], 1))
    workspace.report(report).write(0, wrong.combine_chunks().to_batches())
    with pytest.raises(ConfigurationError, match=f"disagree on {total}"):
        check(workspace)


def test_totals_that_disagree_with_what_cleaning_counted_are_an_error(workspace: Workspace) -> None:
    counts = {name: load_counts(workspace, name) for name in ("users", "posts")}
    for table, figure, total in (("posts", "kept", "posts in scope"), ("users", "read", "users rejected")):
        wrong = replace(counts[table], **{figure: getattr(counts[table], figure) + 1})
        with pytest.raises(ConfigurationError, match=f"disagree on {total}"):
            check_totals(all_reports(workspace), {**counts, table: wrong})


def test_a_column_that_the_contract_names_no_more_holds_nothing(workspace: Workspace) -> None:
    """It could not be accepted either: no metric has its name."""
    counts = run_counts(workspace)
    last = counts.model_copy(update={"columns": {"users": {"email": 0.9, "gone": 0.9}, "letters": {"note": 1.0}}})
    now = counts.model_copy(update={"columns": {"users": {"name": 1.0}}})
    names = [drift.name for drift in find_drift(now, plan=QUIET, last=last, settings=SETTINGS)]
    assert names == ["column_gone:users.email"]
    require_known(names)


def test_the_headline_counts_what_is_out_of_scope(tmp_path: Path) -> None:
    users = [user(1), user(2, created_at=AS_OF)]
    posts = [post(1, 1), post(2, 2), post(3, 1, created_at=AS_OF), post(4, 9)]
    figures = run_counts(make_run(tmp_path, users, posts)[0]).headline
    assert [figures[of] for of in ("total_posts", "users_after_as_of", "posts_after_as_of")] == [1, 1, 2]
    assert "as_of" not in figures


@pytest.mark.parametrize(
    ("table", "was", "share", "held"),
    [
        ("posts", 1.0, 0.79, True),
        ("posts", 1.0, 0.81, False),  # within its share
        ("users", 0.4, 0.18, True),  # 11 of 50 rows
        ("users", 0.4, 0.2, False),  # 10, the floor
        ("users", 0.02, 0.0, True),  # however few they were
        ("users", 0.0, 0.0, False),
        ("users", 0.2, 0.9, False),
    ],
)
def test_a_column_that_far_fewer_rows_fill_is_held(
    workspace: Workspace, table: str, was: float, share: float, held: bool
) -> None:
    last = run_counts(workspace).model_copy(update={"columns": {table: {"updated_at": was}}})
    now = last.model_copy(update={"columns": {table: {"updated_at": share}}})
    drifts = find_drift(now, plan=QUIET, last=last, settings=SETTINGS)
    assert [drift.name for drift in drifts] == [f"column_filled:{table}.updated_at"] * held


def test_an_emptied_table_is_held_for_its_rows_and_not_for_each_column(workspace: Workspace, tmp_path: Path) -> None:
    full = {table: {"updated_at": 1.0} for table in QUIET}
    last = run_counts(workspace).model_copy(update={"columns": full})
    empty = run_counts(make_run(tmp_path / "empty", [], [])[0])
    now = empty.model_copy(update={"columns": {table: {"updated_at": 0.0} for table in QUIET}})
    names = [drift.name for drift in find_drift(now, plan=QUIET, last=last, settings=SETTINGS)]
    assert names == ["users_drop", "posts_drop"]
