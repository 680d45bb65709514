"""Forms: what the UI shows of each field, and what a wrong value is answered with."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prefect.utilities.callables import parameter_schema
from prefect.utilities.schema_tools.validation import validate
from pydantic import SecretStr, ValidationError

from flows import forms
from flows.forms import (
    BackfillForm,
    CompareForm,
    DoctorForm,
    ExportForm,
    Form,
    NightlyForm,
    RestoreForm,
    WatchForm,
)
from tasks.contracts import REPORTS
from tests.flows.test_every_form import FORMS as BY_FLOW

FORMS = list(BY_FLOW.values())
WRITING = [form for form in FORMS if form not in (DoctorForm, CompareForm)]
each_form = pytest.mark.parametrize("form", FORMS)


def schema_in_prefect(form: type[Form]) -> dict[str, Any]:
    """The schema as Prefect would store it for a flow with this form."""

    def flow(options: Any = None) -> None: ...

    flow.__annotations__["options"] = form
    flow.__defaults__ = (form(),)
    return parameter_schema(flow).model_dump_for_openapi()


def fields(form: type[Form]) -> dict[str, Any]:
    schema = schema_in_prefect(form)
    properties: dict[str, Any] = schema["definitions"][form.__name__]["properties"]
    return properties


def refused(form: type[Form], **values: Any) -> str:
    """The sentence that a wrong value is answered with."""
    with pytest.raises(ValidationError) as caught:
        form(**values)
    return str(caught.value.errors()[0]["msg"])


@each_form
def test_every_field_reaches_the_ui_with_title_description_and_place(form: type[Form]) -> None:
    shown = list(fields(form).values())
    assert [field["position"] for field in shown] == list(range(len(shown)))
    assert all(field["title"] and field["description"].endswith(".") for field in shown)


@each_form
def test_descriptions_are_plain_text_as_one_ui_shows_what_is_typed(form: type[Form]) -> None:
    assert [field["title"] for field in fields(form).values() if re.search(r"[`*]", field["description"])] == []


@pytest.mark.parametrize("form", WRITING)
def test_every_form_starts_as_a_dry_run_and_ends_with_that_switch(form: type[Form]) -> None:
    shown = fields(form)
    assert shown["dry_run"]["default"] is True
    assert list(shown)[-1] == "dry_run"


def test_what_only_the_automation_sets_is_checked_but_not_shown() -> None:
    schema = schema_in_prefect(NightlyForm)
    assert "restart" not in fields(NightlyForm)
    assert validate({"options": {"restart": 1}}, schema) == []


@each_form
def test_no_field_is_a_secret_and_unknown_ones_are_refused(form: type[Form]) -> None:
    assert not [name for name, field in form.model_fields.items() if field.annotation is SecretStr]
    assert validate({"options": {"surprise": 1}}, schema_in_prefect(form))


@each_form
def test_the_defaults_are_a_valid_form(form: type[Form]) -> None:
    assert validate({"options": form().model_dump(mode="json")}, schema_in_prefect(form)) == []


def test_the_export_offers_every_report() -> None:
    assert fields(ExportForm)["report"]["enum"] == [report.name for report in REPORTS]


@given(st.integers(0, 1_767_225_600_000_000))
def test_any_past_instant_is_an_as_of_for_form_and_server_alike(microseconds: int) -> None:
    instant = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)
    text = instant.isoformat()
    assert NightlyForm(as_of=text).instant == instant
    assert NightlyForm.model_validate({"instant": text}).instant == instant
    assert validate({"options": {"instant": text}}, schema_in_prefect(NightlyForm)) == []


@given(st.text())
def test_any_text_is_an_as_of_or_answered_in_a_sentence(text: str) -> None:
    try:
        NightlyForm(as_of=text)
        said = "."
    except ValidationError as error:
        said = str(error.errors()[0]["msg"])
    assert said.endswith(".")


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"as_of": "yesterday"}, "none of midnight, now, resume"),
        ({"as_of": "2026-01-31T12:00"}, "no time zone"),
        ({"as_of": "2999-01-01"}, "in the future"),
        ({"as_of": "9999-12-31T23:00-05:00"}, "in the future"),
        ({"as_of": "0001-01-01"}, "before 1970-01-01"),
        ({"as_of": "0001-01-01T00:00+05:45"}, "before 1970-01-01"),
        ({"accept": ["users fell"]}, "no metric's name"),
    ],
)
def test_a_wrong_nightly_is_answered_in_a_sentence(values: dict[str, Any], says: str) -> None:
    assert says in refused(NightlyForm, **values)


def test_a_third_restart_is_refused_by_the_server_itself() -> None:
    schema = schema_in_prefect(NightlyForm)
    assert validate({"options": {"restart": forms.MAX_RESTARTS}}, schema) == []
    assert validate({"options": {"restart": forms.MAX_RESTARTS + 1}}, schema)


def test_a_range_of_days_is_in_order_past_and_bounded() -> None:
    today = datetime.now(UTC).date()
    assert "not over yet" in refused(BackfillForm, last_day=today)
    assert "comes after" in refused(BackfillForm, first_day=date(2026, 2, 1), last_day=date(2026, 1, 1))
    assert "at most" in refused(BackfillForm, first_day=date(2020, 1, 1), last_day=date(2026, 1, 1))
    assert "not over yet" in refused(BackfillForm, last_day=date.max)
    assert "before 1970-01-01" in refused(BackfillForm, first_day=date.min, last_day=date.min)


@each_form
def test_a_field_that_may_stay_empty_is_one_field(form: type[Form]) -> None:
    for name, shown in fields(form).items():
        assert "anyOf" not in shown, name
        assert shown["type"] in ("string", "integer", "number", "boolean", "array"), name


def test_a_date_is_a_date() -> None:
    shown = {**fields(BackfillForm), **fields(ExportForm), **fields(NightlyForm)}
    for name in ("first_day", "last_day", "date_from", "date_to", "instant"):
        assert shown[name]["format"] in ("date", "date-time")


@pytest.mark.parametrize("value", [1769817600, "1769817600", " 1769817600000 ", "1.7698176e9", -1, True])
@pytest.mark.parametrize(
    ("form", "name"),
    [(BackfillForm, "first_day"), (BackfillForm, "last_day"), (ExportForm, "date_from"), (NightlyForm, "instant")],
)
def test_a_number_is_no_day_and_no_instant(form: type[Form], name: str, value: object) -> None:
    like = "instant like 2026-01-31T12:00Z" if name == "instant" else "day like 2026-01-31"
    assert f"This is no {like}." in refused(form, **{name: value})


@pytest.mark.parametrize("name", ["changes", "minutes", "every_minutes"])
def test_a_bound_of_the_watch_is_refused_by_the_form_itself(name: str) -> None:
    schema = schema_in_prefect(WatchForm)
    assert validate({"options": {name: 5}}, schema) == []
    assert validate({"options": {name: -1}}, schema)


@pytest.mark.parametrize("name", ["minutes", "every_minutes"])
def test_what_the_form_of_the_watch_takes_its_settings_take(name: str) -> None:
    """More than a year was taken, and the run then failed over a variable that nobody had set."""
    assert validate({"options": {name: 10**6}}, schema_in_prefect(WatchForm))
    assert "less than or equal to 527040" in refused(WatchForm, **{name: 10**6})


@given(st.dates(date(2000, 1, 1), date(2025, 1, 1)), st.integers(0, forms.MAX_BACKFILL_DAYS - 1))
def test_a_backfill_has_every_day_of_its_range_once_oldest_first(first: date, more: int) -> None:
    days = BackfillForm(first_day=first, last_day=first + timedelta(days=more)).days()
    assert days == sorted(set(days))
    assert (days[0], len(days)) == (first, more + 1)


def test_a_quick_backfill_is_a_dry_run_of_yesterday() -> None:
    form = BackfillForm()
    assert form.dry_run
    assert form.days() == [datetime.now(UTC).date() - timedelta(days=1)]


def test_an_export_names_columns_and_dates_of_its_report() -> None:
    assert "has no posts_1d" in refused(ExportForm, report="daily_activity", columns=["date", "posts_1d"])
    assert "There is no report" in refused(ExportForm, report="everything")
    assert "no column of days" in refused(ExportForm, report="data_quality", date_from=date(2026, 1, 1))
    assert "comes after" in refused(ExportForm, date_from=date(2026, 2, 1), date_to=date(2026, 1, 1))
    assert ExportForm(columns=["posts", "date", "posts"]).columns == ["posts", "date"]
    assert ExportForm(columns=["date,", "posts"]).columns == ["date", "posts"]  # a trailing comma, as on a command line
    assert "less than or equal to 7" in refused(ExportForm, link_days=8)


def test_a_run_to_restore_looks_like_one() -> None:
    assert "no run's id" in refused(RestoreForm, run="../../etc")
    assert RestoreForm(run="20260131T030000Z-0123abcd").dry_run


RUN = "20260131T030000Z-0123abcd"


@pytest.mark.parametrize(
    ("form", "name", "entries", "value"),
    [
        (ExportForm, "columns", ["date, posts", "words"], ["date", "posts", "words"]),
        (NightlyForm, "accept", ["posts_drop,users_drop"], ["posts_drop", "users_drop"]),
    ],
)
def test_names_in_one_line_are_one_each(form: type[Form], name: str, entries: list[str], value: list[str]) -> None:
    """`date, posts` as one entry was answered with a regular expression."""
    assert validate({"options": {name: entries}}, schema_in_prefect(form)) == []
    assert getattr(form.model_validate({name: entries}), name) == value


@pytest.mark.parametrize(
    ("form", "name", "value"),
    [
        (RestoreForm, "run", RUN),
        (RestoreForm, "run", "previous"),
        (CompareForm, "base", "2026-01-31"),
        (CompareForm, "run", RUN),
        (ExportForm, "columns", ["posts"]),
        (NightlyForm, "accept", ["posts_drop"]),
    ],
)
@pytest.mark.parametrize(("before", "after"), [(" ", " "), ("", "\n"), ("\t", "\u00a0")], ids=["spaces", "line", "tab"])
def test_white_space_that_is_pasted_along_goes(
    form: type[Form], name: str, value: Any, before: str, after: str
) -> None:
    """A text field of Prefect's page has several lines: with the end of one, `previous` was no committed run."""
    pasted = [f"{before}{text}{after}" for text in value] if isinstance(value, list) else f"{before}{value}{after}"
    assert validate({"options": {name: pasted}}, schema_in_prefect(form)) == []
    assert getattr(form.model_validate({name: pasted}), name) == value
