"""The data dictionary says what the contracts say."""

from __future__ import annotations

import re

from tasks.contracts import REPORTS, TABLES
from tasks.contracts.dictionary import PATH, render


def test_the_file_is_what_the_contracts_make_of_it() -> None:
    assert PATH.read_text(encoding="utf-8") == render(), "run `make dictionary`"


def test_every_column_has_a_row_with_its_description() -> None:
    text = render()
    for columns in (*(r.columns for r in REPORTS), *(t.file_columns for t in TABLES)):
        for column in columns:
            assert f"| `{column.name}` |" in text
            assert column.description in text


def test_it_says_what_has_no_descriptions_and_reads_as_english() -> None:
    text = render()
    assert "the files in `state/`, for the next incremental night, have none" in text
    assert not re.search(r"\ba [aeio]", text)


def test_it_says_what_a_share_a_null_and_a_table_in_postgres_are() -> None:
    text = " ".join(render().split())
    assert "A share is a fraction from 0 to 1." in text
    assert "`reports/data_quality.parquet` · keys `table`, `rule`, not sorted by them" in text
    assert "none of a run for a past instant, such as those of `backfill`" in text


def test_links_lead_to_headings() -> None:
    text = render()
    headings = {h.lower().replace(",", "").replace(" ", "-") for h in re.findall(r"^#+ (.+)$", text, re.M)}
    assert set(re.findall(r"\(#([^)]+)\)", text)) <= headings
