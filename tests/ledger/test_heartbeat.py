"""The heartbeat of a run while the database is away."""

from __future__ import annotations

from contextlib import nullcontext

import pytest

from tasks.errors import ServiceUnavailable
from tasks.ledger.lease import Heartbeat, Lease
from tasks.settings import Settings


class _Patchy:
    """A database that delivers a beat, or does not, as a list says."""

    def __init__(self, delivers: list[bool]) -> None:
        self.delivers = delivers

    def call(self, function: str, **_: object) -> None:
        if not self.delivers.pop(0):
            raise ServiceUnavailable("The connection failed.")


def test_a_heartbeat_reports_each_outage_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A run over an outage of a minute logged a line a second."""
    lease = Lease("r", "t", None, "now", None, "rest", None, historical=False, last=None)
    heartbeat, database = Heartbeat(Settings(_env_file=None), lease), _Patchy([False, False, True, True, False, False])
    monkeypatch.setattr("tasks.ledger.lease.open_database", lambda _: nullcontext(database))

    def wait(_: float) -> None:
        if not database.delivers:
            heartbeat._done.set()

    monkeypatch.setattr(heartbeat._done, "wait", wait)
    heartbeat.run()
    assert len(caplog.messages) == 2, caplog.messages
