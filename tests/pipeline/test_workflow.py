"""The GitHub workflow: its night runs as it stands, with the secrets that it names and nothing else."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.pipeline.kit import Project

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
IDENTITIES = ["service key"]  # the command is the same for all
WORKFLOW = yaml.safe_load((ROOT / "deploy" / "github-nightly.yml").read_text())["jobs"]["nightly"]


def test_the_workflow_runs_a_night_on_a_product_without_a_row(project: Project, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    found = project.stack.env()
    env = {name: str(value) for name, value in WORKFLOW["env"].items()}
    secrets = {name: found[name] for name, value in env.items() if value == f"${{{{ secrets.{name} }}}}"}
    assert {"SUPABASE_URL", "SUPABASE_SERVICE_KEY", "SUPABASE_DB_URL"} == set(secrets)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env |= {**secrets, "PATH": path, "HOME": str(tmp_path / "home"), "ETL_DATA_DIR": str(tmp_path / "runner")}
    (_, *commands) = [step["run"] for step in WORKFLOW["steps"] if "run" in step]
    night, retention = [
        subprocess.run(["bash", "-euc", step], cwd=ROOT, env=env, capture_output=True, text=True, check=False)
        for step in commands
    ]
    assert (night.returncode, retention.returncode) == (0, 0), night.stderr + retention.stderr
    assert not re.search("arning|Traceback", night.stderr), night.stderr
    assert json.loads(night.stdout)["status"] == "committed"
    assert project.latest() is not None
    assert json.loads(retention.stdout.splitlines()[-1]) == {"keep": 1, "prune": 0, "remove": 0}
