"""The notebook and the README's reading section run as they are, with readers' defaults, and show what was written.

Against a stack with two runs; each output of the notebook is compared with what the files say.
"""

from __future__ import annotations

import ast
import re
import sys
import textwrap
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
import pytest
from nbclient import NotebookClient

from local_stack import Stack
from tasks.files.manifest import ManifestRef
from tasks.publish.pointer import repair_pointer
from tasks.settings import LOCAL_PROJECT
from tests.read.conftest import Bucketful

read: Any = nbformat.read  # it has no types
ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "data" / "reading_reports.ipynb"


@pytest.fixture
def environment(filled: Bucketful, stack: Stack, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Bucketful:
    """The settings that a person has: the project's address and key, all else as it is by default."""
    for name, value in {**stack.env(), "ETL_TRANSPORT": "rest", "ETL_CACHE_DIR": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    return filled


def _frame(bucketful: Bucketful, ref: ManifestRef, path: str) -> pd.DataFrame:
    """A file as it was written, read from the run's own folder on this machine."""
    run_id = ref.run_path.rpartition("/")[2]
    file = bucketful.settings.data_dir / "runs" / run_id / "files" / path
    return pd.read_parquet(file)


def _expected(bucketful: Bucketful) -> dict[str, str]:
    """For each cell with an output, by a piece of its source: the text that it must show."""
    daily = _frame(bucketful, bucketful.later, "reports/daily_activity.parquet")
    daily["date"] = pd.to_datetime(daily["date"])
    before = _frame(bucketful, bucketful.earlier, "reports/daily_activity.parquet")
    before["date"] = pd.to_datetime(before["date"])
    cohorts = _frame(bucketful, bucketful.later, "reports/signup_cohorts.parquet")
    cohorts["cohort_month"] = pd.to_datetime(cohorts["cohort_month"])
    users = _frame(bucketful, bucketful.later, "clean/users/part-000.parquet")
    active = users[users["status"] == "active"]
    months = daily.set_index("date")[["new_users", "posts", "authors"]].resample("MS").sum()
    retention = cohorts.pivot(index="cohort_month", columns="months_since", values="retention")
    both = before.merge(daily, on="date", suffixes=("_old", "_new")).set_index("date")
    return {
        "resample(": str(months.tail(6)),
        "* 100).round()": str((retention * 100).round().tail(6)),
        'users[["has_name"': str(active[["has_name", "has_email", "has_bio"]].mean()),
        'quality.attrs["run_id"]': "True",
        "pd.read_parquet(link": str(daily[["date", "posts"]].tail(3).assign(date=daily["date"].dt.date)),
        "changes.changed": str(both[["posts_old", "posts_new"]].tail(3)),
        "read_history(": "total_users",
        "posts.describe()": "word_count",
        "list_runs(limit=5)": "later",
        "pl.scan_parquet": f"{daily['posts'].sum()}",
        "date_trunc": f"{months['posts'].iloc[-1]}",
        "plot(": "<Figure",
    }


@pytest.mark.filterwarnings("default")  # of the machinery that runs notebooks
def test_every_cell_of_the_notebook_shows_what_was_written(
    environment: Bucketful, stack: Stack, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """On the local stack, as `make run` leaves it: nothing is set, and the project's folder knows its address."""
    local = tmp_path / LOCAL_PROJECT
    local.parent.mkdir(parents=True)
    local.write_text("".join(f"{name}={value}\n" for name, value in stack.env().items()))
    for name in stack.env():
        monkeypatch.delenv(name)
    (tmp_path / "tasks").symlink_to(ROOT / "tasks")
    notebook = read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(local.parent)}}).execute()
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not [output for cell in code for output in cell.outputs if output.output_type == "stream"]
    expected = _expected(environment)
    seen = set()
    for cell in code:
        for output in cell.outputs:
            text = "".join(output["data"]["text/plain"])
            piece = next(piece for piece in expected if piece in cell.source)
            seen.add(piece)
            assert _figures(expected[piece]) <= _figures(text), f"{cell.source}\n{text}\n{expected[piece]}"
    assert seen == set(expected)


def test_a_link_is_to_what_readers_get_also_after_a_restore(
    changeable: Bucketful, stack: Stack, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It was to the newest run, which a restore had taken back from readers."""
    repair_pointer(changeable.settings, changeable.earlier)
    for name, value in {**stack.env(), "ETL_TRANSPORT": "rest", "ETL_CACHE_DIR": str(tmp_path / "cache")}.items():
        monkeypatch.setenv(name, value)
    names: dict[str, Any] = {}
    for source in [cell.source for cell in read(NOTEBOOK, as_version=4).cells if cell.cell_type == "code"]:
        if source.startswith(("from tasks.read import list_runs", "daily = ", "from tasks.publish.upload")):
            exec(source, names)
    assert f"/{changeable.earlier.run_path}/reports/daily_activity.parquet" in names["link"]


def _figures(text: str) -> set[str]:
    """Words and numbers of an output: frames differ in their spaces only."""
    return set(re.findall(r"[\w.:+-]+", text)) - {"dtype", "float64", "...", "."}


def test_the_notebook_is_kept_without_output_and_sets_no_reader_right() -> None:
    notebook = read(NOTEBOOK, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    assert not [cell for cell in code if re.search(r"hive_partitioning|partitioning=|glob=", cell.source)]


def test_the_readme_reads_as_it_says(environment: Bucketful, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (ROOT / "README.md").read_text()
    section = text[text.index("## Read the reports") : text.index("## Use the Prefect UI")]
    names: dict[str, Any] = {}
    blocks = [textwrap.dedent(block) for block in re.findall(r"```python\n(.*?)```", section, re.DOTALL)]
    assert len(blocks) >= 2
    shown: list[Any] = []
    monkeypatch.setattr(sys, "displayhook", shown.append)
    monkeypatch.chdir(ROOT)
    for block in blocks:
        for statement in _statements(block):
            exec(compile(statement, "README.md", "single"), names)
    daily, statistics, posts, changed, history = shown
    assert daily["date"].tolist() == _days(environment, environment.later)
    assert statistics["total_posts"].tolist() == _total_posts(environment, environment.later)
    assert sorted(posts.columns) == ["created_at", "user_id", "word_count"]
    assert len(posts) == 400
    assert {"date", "posts_old", "posts_new"} <= set(changed.columns)
    assert history.columns[0] == "as_of"
    assert len(history) == 2
    assert names["daily"].attrs["run_id"] == names["users"].attrs["run_id"] == "later"


def _statements(block: str) -> list[str]:
    """Each statement by itself, as an interactive session takes it."""
    return [f"{ast.get_source_segment(block, node)}\n" for node in ast.parse(block).body]


def _days(bucketful: Bucketful, ref: ManifestRef) -> list[pd.Timestamp]:
    return list(pd.to_datetime(_frame(bucketful, ref, "reports/daily_activity.parquet")["date"]))


def _total_posts(bucketful: Bucketful, ref: ManifestRef) -> list[int]:
    return list(_frame(bucketful, ref, "reports/user_statistics.parquet")["total_posts"])
