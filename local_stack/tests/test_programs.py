"""Whose programs the stack runs on, and where they may lie."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from local_stack import postgres
from local_stack.__main__ import main
from local_stack.home import Home
from local_stack.processes import running
from local_stack.state import save_state
from tests.conftest import temporary_home


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


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="PostgreSQL runs as another account under root only")
def test_root_may_keep_a_stack_where_only_root_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clone below /root, say: PostgreSQL's account could not reach its own data and programs there."""
    monkeypatch.delenv("LOCAL_STACK_POSTGRES", raising=False)
    with temporary_home() as home:
        wheel = postgres.program("postgres").parents[2]
        for folder in (wheel, wheel.with_name(f"{wheel.name}.libs")):
            shutil.copytree(folder, home / folder.name)
        monkeypatch.setenv("LOCAL_STACK_POSTGRES", str(home / wheel.name / "pginstall18" / "bin"))
        home.chmod(0o700)
        below = Home.at(home / "below")
        below.create(traversable=True)
        state = save_state(below)
        try:
            postgres.start(below, state, say=lambda _: None)
            assert postgres.answers(state)
            process = running(postgres.service(below))
            assert process
            assert process.uids().real != 0
        finally:
            postgres.stop(below)
