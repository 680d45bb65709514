"""Projects run other releases of PostgreSQL than the wheel's: the suite's own tests on those installed here."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
INSTALLED: list[Path | None] = [*sorted(Path("/usr/lib/postgresql").glob("*/bin"))] or [None]
TESTED = ("migrations", "source", "sink", "ledger", "incremental", "publish", "doctor", "pipeline/test_runs.py")


@pytest.mark.soak
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("programs", INSTALLED, ids=lambda path: f"postgresql-{path.parent.name}" if path else "none")
def test_what_asks_the_database_passes_on_the_releases_that_are_installed(programs: Path | None) -> None:
    """As a person would: LOCAL_STACK_POSTGRES=/usr/lib/postgresql/15/bin make test ARGS=tests/incremental."""
    if programs is None:
        pytest.skip("no PostgreSQL is installed beside the wheel's (Debian: apt-get install postgresql)")
    paths = [f"tests/{path}" for path in TESTED]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not soak", *paths], cwd=ROOT,
        env={**os.environ, "LOCAL_STACK_POSTGRES": str(programs)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4_000:]
