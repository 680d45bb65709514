"""The run page: figures for people, tables that nothing can break, and no word of a row."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from flows.engine import run_page
from flows.engine.markdown import inert
from tasks.errors import (
    AccessError,
    ConfigurationError,
    LeaseHeld,
    PipelineError,
    ReadError,
    RunHeld,
    ServiceUnavailable,
    SettingsError,
)

MARKDOWN = MarkdownIt().enable("table")
figures = st.none() | st.integers(-(10**12), 10**12) | st.floats()


@pytest.mark.parametrize(
    ("now", "before", "text"),
    [
        (120, 100, "+20 (+20.0 %)"),
        (100, 100, "±0"),
        (5, 0, "+5"),
        (7, None, "–"),
        (None, 7, "–"),
        (90, 100, "−10 (−10.0 %)"),
        (100_001, 100_005, "−4"),
        (10.0026, 10.0, "+0.0026"),
        (0.5, 0.53, "−0.03 (−5.7 %)"),
        (0.1 + 0.2, 0.3, "±0"),
    ],
)
def test_a_change_has_sign_and_share(now: float | None, before: float | None, text: str) -> None:
    assert run_page.change(now, before) == text


@given(st.dictionaries(st.sampled_from([*run_page.LABELS]), figures))
def test_statistics_are_plain_json_whatever_the_figures(headline: dict[str, float | None]) -> None:
    json.dumps(run_page.statistics_rows(headline, headline), allow_nan=False)


@given(st.lists(st.text(), min_size=1, max_size=4))
def test_no_text_breaks_out_of_its_row(texts: list[str]) -> None:
    page = run_page.table("l" * len(texts), ["x"] * len(texts), [texts])
    assert len(page.splitlines()) == 3


def test_the_summary_shows_headline_change_and_rows() -> None:
    page = run_page.summary_page(
        status="committed",
        as_of=datetime(2026, 1, 31, tzinfo=UTC),
        run_id="r1",
        transport="rest",
        headline={"total_users": 1100},
        last={"total_users": 1000},
        tables={"users": {"read": 1100, "kept": 1090, "rejected": 10}},
        seconds=12.0,
        notes=["Computed from current rows."],
    )
    assert page.startswith("# Committed: as of 2026-01-31 00:00 UTC")
    assert "+100 (+10.0 %)" in page
    assert "| users | 1,100 | 1,090 | 10 |" in page
    assert "> Computed from current rows." in page


def test_the_cleaning_ledger_shows_the_change_in_points() -> None:
    row = {"table": "users", "rule": "invalid_email", "action": "changed", "rows_checked": 200, "rows_affected": 3}
    (shown,) = run_page.cleaning_rows([{**row, "share": 0.015}], {("users", "invalid_email"): 0.01})
    assert shown["share"] == "1.500%"
    assert shown["points since the last run"] == "+0.50"


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (RunHeld("total_posts fell by 40 %."), "Accept held metrics"),
        (ServiceUnavailable("The connection failed."), "`resume`"),
        (ReadError("Page 3 of posts.", remedy="Look at the key."), "Look at the key. Start `doctor`"),
        (AccessError("Invalid API key", remedy="Set the key."), "start the worker again, too. Then start this flow"),
    ],
)
def test_a_failure_says_what_happened_what_was_written_and_what_next(error: Exception, says: str) -> None:
    page = run_page.failure_page(error, stage="Read posts", written="Nothing.", run_id="r1")
    assert str(error.args[0]) in page
    assert "**What was written.** Nothing." in page
    assert says in page


@pytest.mark.parametrize("error", [ConfigurationError, SettingsError, LeaseHeld])
def test_no_advice_leads_in_a_circle_or_against_the_remedy(error: type[PipelineError]) -> None:
    """The doctor's page does not send to the doctor; the holder of a lease that is in the way may be dead."""
    page = run_page.failure_page(
        error("4 to fix.", remedy="The artifact lists them."), stage="doctor", written="Nothing."
    )
    assert "Start `doctor`" not in page
    assert "Nothing:" not in page


def test_the_words_of_a_foreign_error_are_not_repeated() -> None:
    page = run_page.failure_page(ValueError("jane@example.org"), stage="Clean users", written="Nothing.")
    assert "ValueError" in page
    assert "jane" not in page


def test_bytes_are_summed_over_the_stages() -> None:
    rows = run_page.traffic_rows({"read": {"seconds": 1, "received": 2048}, "publish": {"seconds": 2, "sent": 10}})
    assert rows[-1] == {"stage": "all", "seconds": 3.0, "rows": None, "sent": "10 B", "received": "2.0 KiB"}


@pytest.mark.parametrize(("seconds", "time"), [(604_800, "7 days"), (3_600, "1 hour"), (90, "1 minute and 30 seconds")])
def test_how_long_links_work_is_said_in_units_of_its_size(seconds: int, time: str) -> None:
    assert f"Each link works for {time}, for whoever" in run_page.files_page([], path="runs/r", seconds=seconds)


def test_what_looks_like_a_tag_is_shown() -> None:
    """Prefect's pages left it out, and said that an address looks like https://.supabase.co."""
    said = "It looks like https://<ref>.supabase.co, or `postgres.<ref>`."
    pages = [
        run_page.failure_page(SettingsError("Wrong.", remedy=said), stage="x", written=""),
        run_page.table("l", ["what to do"], [(said,)]),
    ]
    for page in pages:
        shown = [part for token in MARKDOWN.parse(page) for part in token.children or []]
        assert "html_inline" not in [part.type for part in shown]
        assert said.replace("`", "") in "".join(part.content for part in shown)


@given(st.lists(st.sampled_from(["`", "``", "\\", "<b>", "<!--", "x", " ", "\n", "\n\n"]), max_size=12).map("".join))
def test_no_text_on_a_page_is_a_tag(text: str) -> None:
    tokens = MARKDOWN.parse(f"Said: {inert(text)}")
    kinds = [of.type for token in tokens for of in (token, *(token.children or []))]
    assert not {"html_inline", "html_block"} & set(kinds)


@given(st.text(st.sampled_from("`|\\[]()<>*_ a"), min_size=1, max_size=12))
def test_no_text_of_a_sample_is_more_than_code(text: str) -> None:
    """A status that users may choose made links of its own on the run's page, by a backtick in it."""
    samples = {"users": {"known_status": [{"column": "status", "before": text, "after": ""}]}}
    inline = [
        token.children or [] for token in MARKDOWN.parse(run_page.samples_page(samples)) if token.type == "inline"
    ]
    (of_text,) = [cell for cell in inline[-2:] if cell]
    assert [part.type for part in of_text] == ["code_inline"]
    assert of_text[0].content.split() == text.split()
