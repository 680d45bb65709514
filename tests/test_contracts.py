"""The one declaration: complete, consistent, and nothing personal in what may leave."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pandas as pd
import pytest

from api.site.charts import CHARTS, spec_of
from api.site.figures import tiles
from api.site.quality import groups
from tasks.charts.lines import activity, growth
from tasks.charts.maps import posting_hours, retention
from tasks.cleaning.rules import check_table
from tasks.cleaning.rules.further import rules_of_columns
from tasks.contracts import (
    DAILY_ACTIVITY,
    FURTHER_TABLES,
    POSTS,
    REPORTS,
    TABLES,
    USERS,
    Column,
    Report,
    Table,
    versions,
)
from tasks.contracts.checks import check_tables
from tasks.errors import ConfigurationError
from tasks.reports import BUILDERS, NEEDED, check_builders
from tasks.reports.checks import totals
from tests.publish.builders import AS_OF, reports

EVERYTHING = [*TABLES, *REPORTS]
TAKEN = ["cmax", "cmin", "ctid", "tableoid", "xmax", "xmin"]
TAKEN += ["_author", "_fingerprint", "_invalid", "_mask", "_n", "_row"]


@pytest.mark.parametrize("declared", EVERYTHING, ids=lambda d: d.name)
def test_every_column_says_what_it_is(declared: Table | Report) -> None:
    assert declared.description.endswith(".")
    for column in declared.columns:
        assert column.description.endswith("."), column.name
        if column.kind in ("timestamptz", "date", "int", "float"):
            assert column.unit, f"{declared.name}.{column.name} has no unit"


@pytest.mark.parametrize("declared", EVERYTHING, ids=lambda d: d.name)
def test_column_names_are_unique(declared: Table | Report) -> None:
    names = [column.name for column in declared.columns]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("report", REPORTS, ids=lambda r: r.name)
def test_reports_hold_no_personal_column_and_name_their_keys(report: Report) -> None:
    assert not any(column.personal for column in report.columns)
    assert set(report.keys) <= {column.name for column in report.columns}
    assert report.names_users == any(column.name == "user_id" for column in report.columns)


@pytest.mark.parametrize("table", TABLES, ids=lambda t: t.name)
def test_files_hold_no_personal_column(table: Table) -> None:
    personal = {column.name for column in table.columns if column.personal}
    assert personal or table in FURTHER_TABLES  # which may hold none
    assert personal.isdisjoint(column.name for column in table.file_columns)


@pytest.mark.parametrize(
    ("column", "said"),
    [
        ({"personal": True}, "phone is personal"),
        ({"kind": "number"}, "there is no kind 'number', there are uuid, bigint, text"),
        ({"name": ""}, "1 to 63 bytes"),
        ({"name": "é" * 32}, "1 to 63 bytes"),
        ({"name": "é" * 32, "source": "phone"}, "1 to 63 bytes"),
        ({"source": "p" * 64}, "1 to 63 bytes"),
        ({"name": "a\0b"}, "1 to 63 bytes"),
        *(({"name": name}, f"column {name}: the name is taken") for name in TAKEN),
        ({"name": "fingerprint"}, "column fingerprint of users: the name is taken"),
        ({"name": "rule_mask"}, "column rule_mask of users: the name is taken"),
        ({"name": "discount_%"}, "column discount_%: no name of ours has a %"),
        ({"kind": "int", "cleaning": "line"}, "phone is no text"),
        ({"name": "email"}, "the table users has two columns called email"),
        ({"name": "row_hash"}, "column row_hash of users: the name is taken"),
        ({"name": "has_name", "kind": "bool"}, "the file of the table users has two columns called has_name"),
    ],
)
def test_a_column_that_cannot_be_is_named_where_it_is_declared(column: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        replace(
            USERS,
            columns=(*USERS.columns, Column(**{"name": "phone", "kind": "text", "description": "A number."} | column)),
        )


@pytest.mark.parametrize(
    "of", [{"nullable": True}, {"optional": True}, {"derived": True}, {"kind": "text"}, {"kind": "int"}], ids=str
)
def test_a_key_that_may_lack_a_value_or_has_no_ranges_is_named(of: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"users\.id is the key"):
        replace(USERS, columns=(replace(USERS.key, **of), *USERS.columns[1:]))


@pytest.mark.parametrize("by_month", ["duplicate_of", "sent_at", "email", "status", "seen_at"])
def test_a_column_by_whose_month_no_file_can_be_split_is_named(by_month: str) -> None:
    columns = (*USERS.columns, Column("seen_at", "timestamptz", "Seen."))
    with pytest.raises(ConfigurationError, match=f"users cannot be split by the month of {by_month}") as caught:
        check_table(replace(USERS, by_month=by_month, columns=columns))
    assert caught.value.remedy.endswith("in the files: created_at, updated_at.")
    check_table(replace(USERS, by_month="created_at"))


def test_tables_that_share_a_name_or_write_to_a_source_are_named() -> None:
    with pytest.raises(ValueError, match="two tables are called posts"):
        check_tables([USERS, POSTS, replace(POSTS, clean="clean_comments")], REPORTS)
    with pytest.raises(ValueError, match="two tables are written to clean_posts"):
        check_tables([USERS, POSTS, replace(POSTS, name="comments")], REPORTS)
    for source in ("clean_users", "daily_activity"):
        with pytest.raises(ValueError, match=f"public.{source} is a source, which is never written"):
            check_tables([USERS, replace(POSTS, source=source)], REPORTS)
        check_tables([USERS, replace(POSTS, source=source, source_schema="product")], REPORTS)
    check_tables([USERS, replace(POSTS, source="author_activity")], REPORTS)


def test_a_report_whose_keys_are_none_of_its_columns_is_named() -> None:
    with pytest.raises(ValueError, match="the report daily_activity has no column day"):
        replace(DAILY_ACTIVITY, keys=("day",))


def test_files_say_whether_a_personal_text_was_there() -> None:
    names = [column.name for column in USERS.file_columns]
    presence = [column.name for column in USERS.columns if column.in_file == "presence"]
    assert {"name", "email", "bio"} & {column.name for column in USERS.columns} <= set(presence)
    assert [name for name in names if name.startswith("has_")] == [f"has_{name}" for name in presence]
    assert {*(column.name for column in USERS.columns if column.personal), "row_hash"}.isdisjoint(names)
    assert {"id", "status", "duplicate_of", "created_at", "updated_at"} <= set(names)


@pytest.mark.parametrize("table", TABLES, ids=lambda t: t.name)
def test_the_key_comes_first_and_is_never_null(table: Table) -> None:
    assert table.key is table.columns[0]
    assert table.key.kind in ("uuid", "bigint")
    assert not table.key.nullable
    assert not table.key.optional


def test_a_schema_that_changed_has_a_version_of_its_own() -> None:
    assert versions.forgotten() == [], "raise `version` in the declaration"
    assert versions.recorded() == versions.current(), "run `make dictionary`"


def test_a_version_that_was_not_raised_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "versions.json"
    path.write_text(versions.PATH.read_text())
    monkeypatch.setattr(versions, "PATH", path)
    wider = replace(USERS, columns=(*USERS.columns, Column("one_more", "text", "One more.")))
    monkeypatch.setattr(versions, "TABLES", (wider,))
    with pytest.raises(ValueError, match="The columns of users changed: raise `version`"):
        versions.write_record()
    raised = replace(wider, version=USERS.version + 1)
    monkeypatch.setattr(versions, "TABLES", (raised, replace(USERS, name="people")))
    versions.write_record()
    assert versions.recorded()["users"]["version"] == raised.version
    assert versions.recorded()["people"]["version"] == USERS.version


def test_what_becomes_of_a_null_is_declared() -> None:
    ruled = {f"{t.name}.{c.name}" for t in (USERS, POSTS) for c in t.source_columns if c.on_null == "rule"}
    assert ruled == {
        "users.status", "users.created_at", "users.updated_at",
        "posts.user_id", "posts.created_at", "posts.updated_at",
    }  # fmt: skip


@pytest.mark.parametrize("report", [report for report in REPORTS if report.name in NEEDED], ids=lambda r: r.name)
def test_what_the_pipeline_goes_by_of_a_report_is_not_taken_away_unsaid(
    report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = [other for other in REPORTS if other is not report]
    monkeypatch.setattr("tasks.reports.REPORTS", others)
    with pytest.raises(ConfigurationError, match=f"The report {report.name} is gone") as caught:
        check_builders({name: build for name, build in BUILDERS.items() if name != report.name})
    assert all(place in caught.value.remedy for place in ("tasks/reports/checks.py", "tasks/charts/", "api/site/"))
    for column in report.columns:
        fewer = tuple(other for other in report.columns if other is not column)
        monkeypatch.setattr("tasks.reports.REPORTS", [*others, replace(report, keys=(), columns=fewer)])
        needed = _is_gone_by(report, column.name)
        with pytest.raises(ConfigurationError, match=column.name) if needed else nullcontext():
            check_builders(BUILDERS)


DRAWN: dict[str, Callable[[pd.DataFrame], object]] = {
    "daily_activity": lambda frame: (growth(frame, as_of=AS_OF), activity(frame, as_of=AS_OF)),
    "signup_cohorts": lambda frame: retention(frame, as_of=AS_OF),
    "post_statistics": posting_hours,
    "data_quality": lambda frame: groups(frame, None),
}
ROWS = reports(np.random.default_rng(1), ["a", "b"])


def _is_gone_by(report: Report, column: str) -> bool:
    """Whether totals, charts or pages of the site break without the column."""
    tables = {of.name: rows.drop_columns(column) if of is report else rows for of, rows in ROWS.items()}
    frames = {name: table.to_pandas(date_as_object=False) for name, table in tables.items()}
    try:
        list(totals(tables, {"posts": MagicMock(), "users": MagicMock()}))
        tiles(frames["user_statistics"], frames["daily_activity"], frames["data_quality"], AS_OF)
        for chart in CHARTS[report.name]:
            spec_of(chart, frames[report.name])
        DRAWN.get(report.name, len)(frames[report.name])
    except (KeyError, AttributeError):
        return True
    return column == "as_of"  # which the headline of a run goes without


def test_a_report_without_its_function_is_named_with_the_place_to_add_it() -> None:
    builders = {name: build for name, build in BUILDERS.items() if name != "signup_cohorts"}
    with pytest.raises(ConfigurationError, match="signup_cohorts is declared, and no function builds it") as caught:
        check_builders(builders)
    assert "tasks/reports/signup_cohorts.py" in caught.value.remedy
    with pytest.raises(ConfigurationError, match="hamlet that is not declared"):
        check_builders({**BUILDERS, "hamlet": None})


def test_a_table_without_what_its_rules_need_is_named() -> None:
    of_posts = ("user_id", "content", "word_count", "char_count", "is_before_signup", "created_at", "row_hash")
    further = replace(POSTS, name="comments")
    of_users = ("created_at", "duplicate_of", "row_hash")
    for table, needed in ((USERS, of_users), (POSTS, of_posts), (further, ("row_hash",))):
        for name in needed:
            fewer = tuple(column for column in table.columns if column.name != name)
            with pytest.raises(ConfigurationError, match=f"contract of {table.name} lacks {name}"):
                check_table(replace(table, columns=fewer))
    renamed = replace(USERS, columns=(replace(USERS.key, name="user_id", source="id"), *USERS.columns[1:]))
    with pytest.raises(ConfigurationError, match="contract of users lacks id"):
        check_table(renamed)
    for name in ("created_at", "updated_at"):
        dated = replace(POSTS[name], kind="date")
        with pytest.raises(
            ConfigurationError, match=f"{name} of comments is of the kind date, and rules need an instant"
        ):
            check_table(replace(further, columns=(POSTS["id"], dated, POSTS["row_hash"]), by_month=None))
    columns = (POSTS["id"], POSTS["user_id"], POSTS["row_hash"])
    with pytest.raises(ValueError, match="no rule of this table fills it"):
        rules_of_columns(replace(further, columns=columns))
    derived = Column("rank", "int", "Rank.", derived=True)
    with pytest.raises(ValueError, match=r"comments\.rank is derived, and nothing derives it"):
        rules_of_columns(replace(further, columns=(POSTS["id"], derived, POSTS["row_hash"])))


def test_a_further_table_is_cleaned_by_its_columns() -> None:
    columns = tuple(POSTS[name] for name in ("id", "title", "created_at", "updated_at", "row_hash"))
    names = [rule.name for rule in rules_of_columns(replace(POSTS, name="comments", columns=columns))]
    assert names == ["invalid_value", "clean_text", "missing_created_at", "created_in_future", "updated_before_created"]
    undated = tuple(POSTS[name] for name in ("id", "updated_at", "row_hash"))
    with pytest.raises(ValueError, match="updated_at: on_null='rule', and no rule of this table fills it"):
        rules_of_columns(replace(POSTS, name="comments", columns=undated))
    for name, rules in (("created_at", ["invalid_value", "created_in_future"]), ("updated_at", ["invalid_value"])):
        open_end = (POSTS["id"], replace(POSTS[name], nullable=True, on_null="reject"), POSTS["row_hash"])
        assert [rule.name for rule in rules_of_columns(replace(POSTS, name="comments", columns=open_end))] == rules
