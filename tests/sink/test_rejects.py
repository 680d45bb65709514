"""Rejects come once each and in order, however many there are."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from tasks.contracts import POSTS, REJECT_SCHEMA
from tasks.sink import rejects
from tasks.workspace import Workspace


def test_many_are_sorted_on_the_disk_as_few_are_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = Workspace(tmp_path)
    given = [
        {
            "table": "posts",
            "key": f"{number % 30:02d}",
            "rule": "orphan",
            "came": f"value {number}",
            "fingerprint": number,
        }
        for number in reversed(range(40))
    ]
    workspace.rejects(POSTS).write(0, pa.Table.from_pylist(given, schema=REJECT_SCHEMA).to_batches(9))
    few = pa.Table.from_batches(rejects.sorted_rejects(workspace, POSTS))
    assert few["id"].to_pylist() == [f"{number:02d}\x1forphan" for number in range(30)]
    monkeypatch.setattr(rejects, "BATCH_ROWS", 39)
    many = pa.Table.from_batches(rejects.sorted_rejects(workspace, POSTS))
    assert many.equals(few)
