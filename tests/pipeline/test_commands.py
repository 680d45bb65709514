"""The commands and the code of the README, run as a newcomer runs them."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from data.demo import DemoCounts
from tests.pipeline.conftest import Runner
from tests.pipeline.kit import Project

ROOT = Path(__file__).parents[2]
PYTHON: list[str] = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


@pytest.fixture(scope="module")
def prefect_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prefect's own folder, whose database is made once."""
    return tmp_path_factory.mktemp("prefect")


def run_command(project: Project, home: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """`make run` without make: on the project that the environment names."""
    full = {**os.environ, **project.env("postgres"), "PREFECT_HOME": str(home), **env}
    command = [sys.executable, "-m", "scripts.run", *arguments]
    return subprocess.run(command, cwd=ROOT, env=full, capture_output=True, text=True, timeout=200, check=False)


@pytest.mark.slow
def test_make_run_says_what_it_did_and_how_to_read_it(project: Project, demo: DemoCounts, prefect_home: Path) -> None:
    done = run_command(project, prefect_home, "--as-of", "2026-01-31")
    assert done.returncode == 0, done.stderr
    assert "committed" in done.stdout
    assert f"{demo.users.kept:,}" in done.stdout
    assert "read_report" in done.stdout
    assert "Starting PostgreSQL" not in done.stderr, "with SUPABASE_URL set nothing local is started"
    assert project.stack.service_key not in done.stdout + done.stderr
    project.assert_whole()


@pytest.mark.slow
def test_a_mistake_is_reported_in_a_sentence(project: Project, prefect_home: Path) -> None:
    done = run_command(project, prefect_home, "--as-of", "yesterday")
    assert done.returncode == 2
    assert "yesterday" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_wrong_key_is_reported_in_a_sentence(project: Project, prefect_home: Path) -> None:
    secret = "ETL_PASSWORD" if "ETL_PASSWORD" in project.identity else "SUPABASE_SERVICE_KEY"
    done = run_command(project, prefect_home, "--transport", "rest", **{secret: "sb_secret_wrong"})
    assert done.returncode == 1
    assert "Traceback" not in done.stdout + done.stderr
    assert "sb_secret_wrong" not in done.stdout + done.stderr


@pytest.mark.parametrize("block", PYTHON, ids=range(len(PYTHON)))
def test_the_python_of_the_readme_runs(
    block: str, project: Project, demo: DemoCounts, run: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(as_of="2026-02-01T00:00:00+00:00")
    monkeypatch.setenv("ETL_DATA_DIR", str(project.folder / "reader"))
    names: dict[str, object] = {}
    for statement in ast.parse(block).body:
        line = ast.unparse(statement)
        exec(f"result = {line}" if line.startswith("read_") else line, names)
        if line.startswith("read_"):
            assert isinstance(names["result"], pd.DataFrame)
            assert len(names["result"])
