"""The notebook runs as it is, against a stack with two runs, and holds no output that would age."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from local_stack import Stack
from tests.read.conftest import Bucketful

read: Any = nbformat.read  # it has no types
NOTEBOOK = Path(__file__).parents[2] / "data" / "reading_reports.ipynb"


@pytest.mark.filterwarnings("default")  # of the machinery that runs notebooks
def test_the_notebook_runs(filled: Bucketful, stack: Stack, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in {**stack.env(), "ETL_TRANSPORT": "rest", "ETL_CACHE_DIR": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    notebook = read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(NOTEBOOK.parent)}}).execute()
    shown = [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]
    assert len([outputs for outputs in shown if outputs]) >= 8
    assert not [output for outputs in shown for output in outputs if output.output_type == "stream"]


def test_the_notebook_is_kept_without_output() -> None:
    notebook = read(NOTEBOOK, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
