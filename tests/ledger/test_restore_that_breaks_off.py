"""A restore that an outage or a signal breaks off says what was moved by then."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from local_stack import Stack
from tasks.errors import ServiceUnavailable, report_of
from tasks.publish.restore import restore
from tests.ledger.test_restore import nights
from tests.sink.kit import settings_for


@pytest.mark.parametrize("end", [ServiceUnavailable, pytest.param(KeyboardInterrupt, marks=pytest.mark.slow)])
def test_a_restore_that_breaks_off_says_what_was_moved(
    end: type[ServiceUnavailable | KeyboardInterrupt],
    clean_stack: Stack,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = settings_for(clean_stack, "rest", tmp_path)
    first, _ = nights(settings)

    def away(*_: Any) -> None:
        raise end("It does not answer.")

    for place, says in (
        ("tasks.publish.restore.repair_pointer", f"Postgres are those of {first.run_id}; `latest.json` may not be"),
        ("tasks.ledger.ledger.Ledger.restore", "together or not at all"),
        ("tasks.ledger.ledger.Ledger.start", ""),  # where the flow says that nothing was
    ):
        with monkeypatch.context() as broken:
            broken.setattr(place, away)
            if end is ServiceUnavailable:
                broken.setattr("tasks.ledger.ledger.Ledger.fail", away)  # nor can the ledger say how it ended
            with pytest.raises(end) as caught:
                restore(settings, first.run_id)
        written = report_of(caught.value).written
        assert says in written if says else not written
