"""The figures of a run survive the ledger and the manifest as they are, also those of another version."""

from __future__ import annotations

import json

import pytest

from tasks.reports.figures import RunCounts

COUNTS = {
    "tables": {"users": {"read": 3, "kept": 2, "rejected": 1}},
    "rules": [
        {"table": "users", "rule": "late", "action": "reject", "checked": 3, "affected": 1, "share": 1 / 3},
        {"table": "posts", "rule": "orphan", "action": "reject", "checked": 0, "affected": 0, "share": None},
    ],
    "headline": {"total_users": 2, "posts_per_user_mean": 0.5, "posts_per_author_median": None},
    "columns": {"users": {"bio": 0.25}},
}


@pytest.mark.parametrize(
    "counts",
    [{}, COUNTS, {**COUNTS, "held": {"users_drop": 0.5}}, {"nights": 1}, {"mode": "full", "full_because": None}],
)
def test_what_is_there_stays_and_what_is_not_stays_away(counts: dict[str, object]) -> None:
    text = json.dumps(counts, sort_keys=True)
    assert json.dumps(RunCounts.model_validate_json(text).to_json(), sort_keys=True) == text


def test_shares_are_by_table_and_rule() -> None:
    assert RunCounts.model_validate(COUNTS).shares == {("users", "late"): 1 / 3, ("posts", "orphan"): None}


def test_figures_that_are_added_are_kept_too() -> None:
    approved = RunCounts.model_validate(COUNTS).model_copy(update={"accepted": ("users_drop",)})
    assert approved.to_json() == {**COUNTS, "accepted": ["users_drop"]}
