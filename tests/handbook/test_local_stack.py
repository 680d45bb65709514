"""The block of local_stack/README.md, by make as it stands, in a folder of its own."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.conftest import temporary_home
from tests.handbook.blocks import block, environment, shell

pytestmark = [pytest.mark.soak, pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")]


def test_up_down_and_reset(tmp_path: Path) -> None:
    up, down, reset = block("make up", "make down", "make reset").strip().splitlines()
    with temporary_home() as home:

        def make(line: str) -> str:
            """The line with a folder of this test's own; what is installed stays as it is."""
            own = f"make -o .venv/.installed HOME_DIR={home}"
            return shell(line.replace("make", own, 1), environment(tmp_path, {}))

        try:
            first, second = make(up), make(up)
            assert "http://127.0.0.1:" in first
            assert first == second, "it is found again"
            note = home / "stack" / "storage" / "note"
            note.touch()
            make(down)
            assert note.exists()
            assert make(reset) == first, "running again, where it was"
            assert not note.exists()
        finally:
            make(down)
