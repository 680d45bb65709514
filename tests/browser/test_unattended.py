"""Nights that waited for a worker become one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tests.browser.conftest import Product

pytestmark = [pytest.mark.slow, pytest.mark.browser, pytest.mark.xdist_group("browser"), pytest.mark.timeout(600)]


def test_late_nights_become_one_for_the_latest_day(product: Product) -> None:
    now = datetime.now(UTC)
    product.finished("nightly", seconds=300)
    known = {run["id"] for run in product.runs("nightly")}
    days = {"start_time": (now - timedelta(days=3)).isoformat(), "end_time": now.isoformat(), "min_runs": 3}
    product.api(f"/deployments/{product.deployment('nightly')['id']}/schedule", days)
    late = [run["id"] for run in product.runs("nightly") if run["id"] not in known]
    assert len(late) >= 2
    ended = [product.ended(run_id) for run_id in late]
    assert sorted(run["state_type"] for run in ended) == ["CANCELLED"] * (len(late) - 1) + ["COMPLETED"]
    # What was cancelled before it started has no artifact, as none of our code ran: its state says why.
    assert all(run["state"]["message"] for run in ended if run["state_type"] == "CANCELLED")
    (done,) = [run for run in ended if run["state_type"] == "COMPLETED"]
    newest = max(datetime.fromisoformat(run["expected_start_time"]) for run in ended)
    assert f"as of {newest:%Y-%m-%d} 00:00" in product.artifacts(done)["summary"]["data"]
