"""What a task wrote and did is as if it had run here, also where its files travel by a URL."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePath

import pytest
from fsspec.implementations.local import LocalFileSystem

from tasks.errors import ConfigurationError, PipelineError, ServiceUnavailable
from tasks.platform.dask import DaskWorkers, _expected
from tasks.platform.dask_worker import run_units
from tasks.platform.traffic import TRAFFIC
from tasks.platform.workers import Tick
from tasks.settings import Settings
from tasks.workspace import Workspace


@pytest.mark.parametrize("url", ["nothing://bucket/prefix", "file:///proc/version/prefix"])
def test_a_url_at_which_nothing_can_be_written_is_named(url: str, tmp_path: Path, settings: Settings) -> None:
    workspace = Workspace.create(tmp_path, "run")
    with pytest.raises(ConfigurationError, match="Nothing can be written at ETL_SHARED_DIR") as raised:
        workers_at(url, settings, workspace)
    assert "s3fs" in raised.value.remedy


class Cluster:
    """One worker, which is this process. cancelled: tasks whose results nobody waits for."""

    cancelled = 0

    def submit(self, run: Callable[..., object], *arguments: object, **_: object) -> Future[object]:
        future = Future[object]()
        try:
            future.set_result(run(*arguments))
        except PipelineError as error:
            future.set_exception(error)
        return future

    def cancel(self, futures: Sequence[object], *, force: bool) -> None:
        assert force
        self.cancelled += len(futures)


def workers_at(url: str, settings: Settings, workspace: Workspace, cluster: Cluster | None = None) -> DaskWorkers:
    """url: by which files travel; with an empty one there is a folder that all share."""
    apart = settings.model_copy(update={"workers": 1, "shared_dir": url})
    return DaskWorkers(cluster or Cluster(), apart, _expected(apart, workspace))


@dataclass(frozen=True)
class Copy:
    """A unit that reads a file of the run's folder and writes another."""

    folder: Path

    def inputs(self) -> list[Path]:
        return [self.folder / "in", self.folder / "absent"]


def copied(unit: Copy, tick: Tick) -> list[Path]:
    (unit.folder / "out").write_text((unit.folder / "in").read_text())
    TRAFFIC.add(sent=3, received=5)
    tick(2)
    tick(7)
    return [unit.folder / "out"]


@pytest.mark.parametrize("shared", [True, False])
def test_what_a_unit_wrote_and_did_is_as_if_it_had_run_here(shared: bool, tmp_path: Path, settings: Settings) -> None:
    workspace, ticks, before = Workspace.create(tmp_path, "run"), list[int](), TRAFFIC.totals()
    url = "" if shared else f"{(tmp_path / 'there').as_uri()}/"
    workers = workers_at(url, settings, workspace, cluster := Cluster())
    for text in ("rows", "more"):  # another file of the same name and size
        (workspace.root / "in").write_text(text)
        assert list(workers.map(copied, [Copy(workspace.root)], tick=ticks.append)) == [[workspace.root / "out"]]
        assert (workspace.root / "out").read_text() == text
    assert ticks == [9, 9]
    # What a worker counts is added to what the run does; here both are one process.
    assert {name: size - before[name] for name, size in TRAFFIC.totals().items()} == {"sent": 12, "received": 20}
    assert not cluster.cancelled


def test_a_full_disk_of_a_worker_ends_the_other_tasks_and_is_raised_here(tmp_path: Path, settings: Settings) -> None:
    def full(unit: int, tick: Tick) -> None:
        raise OSError(28, "No space left on device")

    workers = workers_at("", settings, Workspace.create(tmp_path, "run"), cluster := Cluster())
    with pytest.raises(OSError, match="No space left"):
        list(workers.map(full, range(3)))
    assert cluster.cancelled == 2


@pytest.mark.parametrize(
    ("method", "of", "could_not"),
    [
        ("put_file", "in", "put what a unit of work reads at"),
        ("get_file", "in", "fetch what a unit of work reads from"),
        ("put_file", "out", "put what a unit of work wrote at"),
        ("get_file", "out", "fetch what a unit of work wrote from"),
    ],
)
@pytest.mark.parametrize(
    ("error", "kind", "remedy"),
    [
        (RuntimeError("token=hush"), ServiceUnavailable, "whether that store answers"),
        (PermissionError("token=hush"), ConfigurationError, "the right to read, write and delete there"),
        (FileNotFoundError("token=hush"), ConfigurationError, "Something else removes files there"),
    ],
)
def test_a_driver_that_fails_in_the_middle_of_a_run_is_a_sentence(
    method: str, of: str, could_not: str, error: Exception, kind: type[PipelineError], remedy: str,
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    workspace = Workspace.create(tmp_path, "run")
    real = getattr(LocalFileSystem, method)

    def failing(files: LocalFileSystem, source: str, target: str, **more: object) -> None:
        if PurePath(source if method == "get_file" else target).name.partition(".")[0] == of:
            raise error
        real(files, source, target, **more)

    workers = workers_at((tmp_path / "there").as_uri(), settings, workspace)
    (workspace.root / "in").write_text("rows")
    monkeypatch.setattr(LocalFileSystem, method, failing)
    monkeypatch.setattr(LocalFileSystem, "rm", lambda *_, **__: (_ for _ in ()).throw(error))
    with pytest.raises(kind, match=f"could not {could_not} ETL_SHARED_DIR, file://.*{type(error).__name__}") as raised:
        list(workers.map(copied, [Copy(workspace.root)]))
    workers.close()
    assert remedy in raised.value.remedy
    assert "remove the run's files from ETL_SHARED_DIR" in caplog.text
    assert "hush" not in f"{raised.value} {caplog.text}"


def test_a_worker_whose_run_is_over_meanwhile_leaves_nothing_at_the_url(tmp_path: Path, settings: Settings) -> None:
    """It was in the middle of a unit when another one failed; what it wrote is personal, and stayed there for good."""
    workspace, there = Workspace.create(tmp_path, "run"), tmp_path / "there"
    workers = workers_at(there.as_uri(), settings, workspace)
    (workspace.root / "in").write_text("rows")

    def while_the_run_ends(unit: Copy, tick: Tick) -> None:
        copied(unit, tick)
        workers.close()

    with pytest.raises(ConfigurationError, match="could not put what a unit of work wrote at"):
        list(workers.map(while_the_run_ends, [Copy(workspace.root)]))
    assert not list(there.iterdir())


def test_threads_of_a_worker_take_turns(tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task that ended removed the files of another one beside it; and what runs before had looked up stayed."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    started, other_ended = threading.Event(), threading.Event()

    def slowly(unit: Copy, tick: Tick) -> None:
        started.set()
        other_ended.wait(0.5)
        copied(unit, tick)

    apart = settings.model_copy(update={"workers": 1, "shared_dir": (tmp_path / "there").as_uri()})
    for name in ("first", "second"):
        workspace = Workspace.create(tmp_path, name)
        (workspace.root / "in").write_text("rows")
        expected, unit = _expected(apart, workspace), Copy(workspace.root)
        DaskWorkers(Cluster(), apart, expected)._share(unit)
        with ThreadPoolExecutor(2) as threads:
            slow = threads.submit(run_units, slowly, [unit], expected, ["in"])
            started.wait(10)
            other = threads.submit(run_units, lambda *_: None, [unit], expected, ["in"])
            other.add_done_callback(lambda _: other_ended.set())
            assert slow.result()[0].outputs == ("out",)
    (kept,) = tmp_path.glob("supabase-nightly-worker-*")
    assert not [path for path in kept.rglob("*") if path.is_file()], "what a task read and wrote goes with it"
