"""What failed beside others runs once more, alone: that, and nothing else, also where pytest-xdist groups tests."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import without_group

TESTS = """
import os, pytest
pytestmark = pytest.mark.xdist_group("one")

def test_that_passes():
    pass

@pytest.mark.parametrize("to", ["a@example.com"])
def test_that_failed(to):
    assert "PASS" in os.environ
"""
CONFTEST = "from tests.conftest import pytest_collection_modifyitems, pytest_configure\n"
ROOT = Path(__file__).parents[1]


def run(folder: Path, *options: str, **environment: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "xdist.plugin", "--rootdir", folder, folder, *options],
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(ROOT), **environment},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


def commands() -> list[list[str]]:
    """The options of each call of pytest in `make test` and `make test-slow`."""
    text = (ROOT / "Makefile").read_text()
    (line,) = re.findall(r"^suite = (.*)$", text, re.M)
    return [call.split("pytest", 1)[1].replace("-n 4", "-n 2").split(" -q ")[0].split() for call in line.split("||")]


@pytest.mark.slow
def test_only_what_failed_runs_again_and_nothing_when_nothing_did(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = soak")
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_it.py").write_text(TESTS)
    beside, alone = commands()
    code, said = run(tmp_path, *beside)
    assert (code, "1 failed, 1 passed" in said) == (1, True), said
    code, said = run(tmp_path, *alone, PASS="1")
    assert (code, "1 passed" in said) == (0, True), said
    code, said = run(tmp_path, *alone, PASS="1")
    assert (code, "passed" in said) == (5, False), said


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("tests/a.py::test_b@browser", "tests/a.py::test_b"),
        ("tests/a.py::test_b[x@y]@tests/a.py", "tests/a.py::test_b[x@y]"),
        ("tests/a.py::test_b[x@y]", "tests/a.py::test_b[x@y]"),
        ("tests/a.py::test_b", "tests/a.py::test_b"),
    ],
)
def test_a_group_is_not_part_of_a_name(given: str, name: str) -> None:
    assert without_group(given) == name
