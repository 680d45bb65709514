"""Which lines of log reach a run's page."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from flows.engine.logs import configure_logging


@pytest.mark.parametrize(("line", "level"), [("PREFECT_LOGGING_LEVEL=debug", logging.DEBUG), ("", logging.INFO)])
def test_the_level_of_the_log_is_read_from_the_file_too(
    line: str, level: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prefect took it from there, and our own lines did not."""
    monkeypatch.delenv("PREFECT_LOGGING_LEVEL", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text(line)
    before = {name: logging.getLogger(name).level for name in ("flows", "tasks")}
    try:
        configure_logging()
        assert {name: logging.getLogger(name).level for name in before} == dict.fromkeys(before, level)
    finally:
        for name, was in before.items():
            logging.getLogger(name).setLevel(was)
