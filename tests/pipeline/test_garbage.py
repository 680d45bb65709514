"""Python looks for garbage rarely while modules are imported, and as usual while a run has rows in its hands."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

_STEPS = """
import gc
usual = gc.get_threshold()
import flows.nightly
print(gc.get_threshold()[0] > usual[0])
from flows.engine.outcome import RunRequest
from flows.engine.pipeline import run_pipeline
from tasks.errors import PipelineError
try:
    run_pipeline(RunRequest())
except PipelineError as error:
    print(type(error).__name__)
print(gc.get_threshold() == usual)
"""


@pytest.mark.slow
def test_a_run_collects_as_usual(tmp_path: Path) -> None:
    env = {"PYTHONPATH": str(Path(__file__).parents[2])}  # and no project
    done = subprocess.run([sys.executable, "-c", _STEPS], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.stdout.split() == ["True", "SettingsError", "True"], done.stderr
