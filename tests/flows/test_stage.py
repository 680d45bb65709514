"""A stage's errors: one sentence, nothing of a row repeated, and the path through the code kept without values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from flows.engine.progress import Meter
from flows.engine.stage import stage
from tasks.errors import ConfigurationError, ReadError, TerminalError
from tasks.platform.refusals import refusals


@dataclass
class Folder:
    """As much of a run as a stage needs."""

    folder: Path

    @property
    def evidence(self) -> str:
        return str(self.folder / "errors" / "run.txt")

    def enter(self, title: str) -> None: ...
    def leave(self, title: str, seconds: float) -> None: ...


def fill_the_disk() -> None:
    """What a write to a full disk raises, while rows come from the database."""
    with refusals(), open("/dev/full", "w") as file:
        file.write("x" * 100_000)


def quote_a_row() -> None:
    value = "ada" + "@example.com"
    raise ValueError(f"could not convert {value!r}")


def know_what_happened() -> None:
    raise ReadError("A range is not complete.")


def run_stage(folder: Path, work: Callable[[], None]) -> None:
    @stage("Some work")
    def some_work(run: Folder, progress: Meter) -> None:
        work()

    some_work(Folder(folder))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_is_reported_as_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"Some work: the disk of ETL_DATA_DIR is full\. Free some space"):
        run_stage(tmp_path, fill_the_disk)


def test_a_defect_repeats_no_row_and_its_traceback_outlives_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ETL_DATA_DIR", str(tmp_path / "data"))
    with pytest.raises(TerminalError) as caught:
        run_stage(tmp_path, quote_a_row)
    assert "ada@" not in str(caught.value)
    assert "unexpected ValueError at test_stage.py" in caught.value.message
    (kept,) = (tmp_path / "data" / "errors").iterdir()
    assert str(kept) in caught.value.remedy
    assert kept.stat().st_mode & 0o077 == 0
    assert "quote_a_row" in kept.read_text()
    assert "ValueError" in kept.read_text()
    assert "ada@" not in kept.read_text()


def test_an_error_of_ours_stays_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(ReadError, match="A range is not complete"):
        run_stage(tmp_path, know_what_happened)
