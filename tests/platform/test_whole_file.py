"""Two processes that write the same file, as Dask has them do when it takes a slow worker for dead, leave it whole."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from uuid import UUID

import fsspec
import numpy as np
import pyarrow as pa
import pytest

from tasks.cleaning.partials import Partial
from tasks.cleaning.pieces import PieceFile
from tasks.platform.shared_folder import SharedFolder
from tasks.source.runs import Budget
from tasks.source.sorting import Sorter
from tasks.workspace import Spool

IDS = pa.record_batch({"id": pa.array([UUID(int=n).bytes for n in range(50)], pa.uuid())})
SUMS = Partial("sums", ("author", "day"), {"posts": np.add})


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_a_spool(tmp_path: Path) -> None:
    spool = Spool(tmp_path, IDS.schema)

    def slow() -> Iterator[pa.RecordBatch]:
        yield IDS
        assert spool.write(0, [IDS, IDS]) == 100  # the other one, from its start to its end
        yield IDS

    assert spool.write(0, slow()) == 100
    assert (spool.table().num_rows, names(tmp_path)) == (100, ["00000.arrow"])


def test_sorted_runs(tmp_path: Path) -> None:
    slow, quick = (Sorter(tmp_path, "id", 1_000, 1_000, Budget(0)) for _ in range(2))

    def batches() -> Iterator[pa.RecordBatch]:
        yield IDS
        quick.add(0, [IDS])

    slow.add(0, batches())
    for sorter in (slow, quick):
        assert sum(b.num_rows for bucket in sorter.buckets() for b in sorter.read(bucket, nbytes=500)) == 50
    assert names(tmp_path) == ["00000.run"]


def test_pieces(tmp_path: Path) -> None:
    rows = {name: np.arange(9) for name in SUMS.schema.names}
    with PieceFile(SUMS, tmp_path / "0.arrow") as slow, PieceFile(SUMS, tmp_path / "0.arrow") as quick:
        slow.write(rows)
        quick.write(rows)
    assert names(tmp_path) == ["0.arrow"]
    for file in (slow, quick):
        assert [len(c["posts"]) for piece in file.pieces for c in piece.columns()] == [9]


def test_a_shared_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = [SharedFolder((tmp_path / "there").as_uri(), tmp_path / name) for name in ("slow", "quick")]
    for folder in folders:
        folder.local.mkdir()
        (folder.local / "a").write_text("text")
    slow, quick = folders
    files = type(fsspec.core.url_to_fs(slow.url)[0])
    put = files.put_file

    def beside(*arguments: object) -> None:
        put(*arguments)
        monkeypatch.undo()
        quick.push([quick.local / "a"])

    monkeypatch.setattr(files, "put_file", beside)
    assert slow.push([slow.local / "a"]) == ["a"]
    assert names(tmp_path / "there") == ["a"]


def test_of_a_writer_that_failed_nothing_is_left(tmp_path: Path) -> None:
    def broken() -> Iterator[pa.RecordBatch]:
        yield IDS
        raise OSError("the disk")

    with pytest.raises(OSError, match="the disk"):
        Spool(tmp_path, IDS.schema).write(0, broken())
    with pytest.raises(OSError, match="the disk"):
        Sorter(tmp_path, "id", 1_000, 1_000, Budget(0)).add(0, broken())
    with suppress(OSError), PieceFile(SUMS, tmp_path / "0.arrow") as file:
        file.write({name: np.arange(9) for name in SUMS.schema.names})
        raise OSError("the disk")
    assert names(tmp_path) == []
