"""What a page asks of Prefect's server, which is busy for a moment now and then."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import httpx
import jwt
import pytest
from prefect.client.base import PrefectHttpxSyncClient

from flows.engine import artifacts
from flows.export import valid_until


def test_a_server_that_was_busy_is_asked_again_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr("time.sleep", waited.append)
    answers = iter([503, 503, 200, 503, 200])
    transport = httpx.MockTransport(lambda _: httpx.Response(next(answers), json=[]))
    with PrefectHttpxSyncClient(base_url="http://prefect", transport=transport, **artifacts.AGAIN_SOON) as client:
        client.post("/artifacts/")
        client.post("/artifacts/")
    soon, patient, soon_too = waited
    assert soon < 1 > soon_too
    assert patient > 1  # a server that stays busy is not hurried


def test_a_link_works_until_its_token_says() -> None:
    """Storage's clock made it; that of the worker's machine may be a day off."""
    token = jwt.encode(
        {"url": "reports/a.csv", "exp": 1_800_000_000}, "some secret of the project, long enough", "HS256"
    )
    assert valid_until(f"https://x/storage/v1/object/sign/reports/a.csv?token={token}", 7) == datetime(
        2027, 1, 15, 8, tzinfo=UTC
    )
    assert valid_until("https://x/a.csv", 7) > datetime.now(UTC) + timedelta(days=6)
