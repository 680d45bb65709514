"""The one declaration: complete, consistent, and nothing personal in what may leave."""

from __future__ import annotations

import pytest

from tasks.contracts import REPORTS, TABLES, USERS, Column, Report, Table

EVERYTHING = [*TABLES, *REPORTS]


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
    assert personal
    assert personal.isdisjoint(column.name for column in table.file_columns)


def test_a_personal_column_cannot_be_declared_as_a_value_in_files() -> None:
    with pytest.raises(ValueError, match="phone is personal"):
        Column("phone", "text", "A number.", personal=True)


def test_files_say_whether_a_personal_text_was_there() -> None:
    names = [column.name for column in USERS.file_columns]
    assert names == [
        "id", "has_name", "has_email", "has_bio", "status", "duplicate_of", "created_at", "updated_at",
    ]  # fmt: skip


@pytest.mark.parametrize("table", TABLES, ids=lambda t: t.name)
def test_the_key_comes_first_and_is_never_null(table: Table) -> None:
    assert table.key is table.columns[0]
    assert table.key.kind in ("uuid", "bigint")
    assert not table.key.nullable
    assert not table.key.optional
