"""What a page asks of Prefect's server, which is busy for a moment now and then."""

from __future__ import annotations

import httpx
import pytest
from prefect.client.base import PrefectHttpxSyncClient

from flows.engine import artifacts


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
