"""Whose programs the stack runs on."""

from __future__ import annotations

from pathlib import Path

import pytest

from local_stack.__main__ import main


def test_a_folder_without_postgresql_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Otherwise the stack would run on the wheel's release, and nobody would notice."""
    monkeypatch.setenv("LOCAL_STACK_POSTGRES", str(tmp_path / "postgresql/17/bin"))
    assert main(["up", "--home", str(tmp_path / "stack"), "--empty"]) == 1
    said = capsys.readouterr().err
    assert f"There is no PostgreSQL in {tmp_path}/postgresql/17/bin" in said
    assert "LOCAL_STACK_POSTGRES names the folder of its programs" in said
    assert not (tmp_path / "stack/postgres").exists()
