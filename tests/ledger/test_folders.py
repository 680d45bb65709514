"""The folders of runs: one a project, locked while in use, whole or an error, and gone when nobody can use them."""

from __future__ import annotations

import multiprocessing
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from data.demo import DemoCounts
from flows.engine import stages
from flows.engine.run import Run
from flows.nightly import main
from local_stack import Stack
from tasks.contracts import POSTS
from tasks.errors import ConfigurationError, PipelineError, TerminalError, WriteError
from tasks.ledger.lease import Lease
from tasks.ledger.resume import can_be_resumed, open_workspace, project_folder
from tasks.platform.code import CODE
from tasks.settings import Settings
from tasks.sink.model import changes, deletes
from tasks.workspace import LOCK, Spool, Workspace, remove_unheld
from tests.pipeline.conftest import Runner
from tests.pipeline.killed import run_in_child
from tests.pipeline.kit import AS_OF, Project
from tests.sink.kit import Night, post, rows_of, settings_for, work


def test_a_folder_that_is_missing_is_not_an_empty_table(tmp_path: Path) -> None:
    spool = Workspace.create(tmp_path, "run").spool("clean", POSTS.name, POSTS.clean_schema)
    with pytest.raises(TerminalError, match="clean/posts are missing"):
        list(spool.batches())
    spool.clear()
    assert list(spool.batches()) == []


@pytest.mark.parametrize(
    ("transport", "lost", "said"),
    [
        ("rest", changes, "0 rows to write and 1 keys to delete, and 8 and 1 were"),
        ("postgres", changes, "0 rows to write and 1 keys to delete, and 8 and 1 were"),
        ("postgres", deletes, "8 rows to write and 0 keys to delete, and 8 and 1 were"),
    ],
)
def test_rows_that_left_the_folder_before_the_load_are_an_error(
    transport: str, lost: Callable[..., Spool], said: str, stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_for(stack, transport, tmp_path)  # type: ignore[arg-type]
    stack.query("truncate public.clean_posts, public.clean_users, public.etl_runs")
    work(settings, Night(posts=[post(n) for n in range(9)]))

    def plan_and_lose(*args: object, **more: object) -> object:
        from tasks.sink import plan

        plans = plan(*args, **more)  # type: ignore[arg-type]
        for file in lost(args[1], POSTS).files():
            file.unlink()
        return plans

    monkeypatch.setattr("tests.sink.kit.plan", plan_and_lose)
    with pytest.raises(WriteError, match=f"posts: the run's folder holds {said} planned"):
        work(settings, Night(posts=[post(n, title="new") for n in range(8)]))
    assert {row["title"] for row in rows_of(stack, "clean_posts")} == {f"Title {n}" for n in range(9)}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own; skipped where none may be mounted."""
    disk = tmp_path / "disk"
    disk.mkdir()
    options = ["-t", "tmpfs", "-o", "size=1g,nr_inodes=8", "tmpfs"]
    if shutil.which("mount") is None or subprocess.run(["mount", *options, disk], capture_output=True).returncode:
        pytest.skip("no disk may be mounted here")
    yield disk
    subprocess.run(["umount", disk], check=True)


def refused(folder: Path) -> str:
    """What is said of a folder that cannot be ETL_DATA_DIR."""
    with pytest.raises(ConfigurationError, match="Nothing was read") as caught:
        Workspace.create(folder, "run", project="project")
    assert "point ETL_DATA_DIR elsewhere" in caught.value.remedy
    return caught.value.message


def test_a_disk_that_takes_nothing_is_a_sentence(small_disk: Path) -> None:
    for number in range(7):
        (small_disk / str(number)).touch()  # bytes are free, and no file may be made
    assert f"the disk of {small_disk}/runs is full" in refused(small_disk)
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    assert f"{small_disk}/runs is on a read-only disk" in refused(small_disk)


def test_what_a_dead_run_left_on_a_full_disk_makes_room_for_the_next(small_disk: Path) -> None:
    """No later run started, and the rows of people stayed, until somebody removed them by hand."""
    subprocess.run(["mount", "-o", "remount,size=300m", small_disk], check=True)
    settings = Settings(_env_file=None, supabase_url="https://abc.supabase.co", data_dir=small_disk)
    dead = Workspace.create(small_disk, "dead", project=project_folder(settings))
    (dead.root / "rows").write_bytes(bytes(64 * 2**20))
    lease = Lease("next", "t", None, "now", None, "postgres", None, historical=False, last=None)
    with open_workspace(settings, lease) as workspace:
        assert [folder.name for folder in workspace.root.parent.iterdir()] == ["next"]


@pytest.mark.parametrize("code", ["another", CODE])
def test_what_other_code_has_read_is_not_continued(code: str, tmp_path: Path) -> None:
    """A night that crashed before an update went on with rows as the old code had converted them, as one of the new."""
    settings = Settings(_env_file=None, supabase_url="https://abc.supabase.co", data_dir=tmp_path)
    dead = Workspace.create(tmp_path, "dead", project=project_folder(settings))
    dead.spool("raw", POSTS.name, POSTS.raw_schema).clear()
    dead.note(transport="rest", code=code)
    Workspace.create(tmp_path, "20261123T030000Z-1a2b3c4d")  # where the first releases left it
    lease = Lease("next", "t", None, "resume", None, "rest", "dead", historical=False, last=None)
    with open_workspace(settings, lease) as workspace:
        assert can_be_resumed(workspace) == (code == CODE)
        assert [folder.name for folder in (tmp_path / "runs").iterdir()] == [project_folder(settings)]
    assert not dead.root.exists()


def test_a_folder_that_cannot_be_made_is_a_sentence(
    tmp_path: Path, clean_stack: Stack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert f"{tmp_path}/file/runs/project cannot be made: a file is where a folder" in refused(tmp_path / "file")
    assert "File name too long" in refused(tmp_path / ("x" * 300))
    monkeypatch.chdir(tmp_path)
    for name, value in {**clean_stack.env(), "ETL_DATA_DIR": str(tmp_path / "file")}.items():
        monkeypatch.setenv(name, value)
    assert main([]) == 1
    said = capsys.readouterr().err
    assert "a file is where a folder should be. Nothing was read." in said
    assert "Traceback" not in said


def _hold(root: str, ready: object, done: object) -> None:
    with Workspace(Path(root)).held():
        ready.set()  # type: ignore[attr-defined]
        done.wait(60)  # type: ignore[attr-defined]


@pytest.mark.slow
def test_what_a_process_uses_stays_and_what_a_dead_one_left_goes(tmp_path: Path) -> None:
    used, left = (Workspace.create(tmp_path, name) for name in ("used", "left"))
    (left.root / LOCK).touch()
    context = multiprocessing.get_context("spawn")
    ready, done = context.Event(), context.Event()
    process = context.Process(target=_hold, args=(str(used.root), ready, done), daemon=True)
    process.start()
    assert ready.wait(60)
    remove_unheld(tmp_path / "runs")
    assert used.root.exists()
    assert not left.root.exists()
    process.kill()
    process.join()
    remove_unheld(tmp_path / "runs")
    assert not used.root.exists()


def test_projects_have_folders_of_their_own() -> None:
    urls = ("https://abc.supabase.co", "https://abd.supabase.co", "http://127.0.0.1:5001", "http://127.0.0.1:5002")
    names = [project_folder(Settings(_env_file=None, supabase_url=url)) for url in urls]
    assert len(set(names)) == len(urls)
    assert all("/" not in name and ":" not in name for name in names)
    assert project_folder(Settings(_env_file=None, supabase_url=f"{urls[0]}/")) == names[0]


def _fail(of: Run, *_: object) -> None:
    raise WriteError("no luck")


@pytest.mark.parametrize("transport", ["postgres", "rest"])
def test_a_failed_run_s_folder_stays_only_where_its_reading_can_go_on(
    transport: str,
    project: Project,
    demo: DemoCounts,
    run: Runner,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(stages, "build_the_reports", _fail)
        with pytest.raises(PipelineError):
            run(transport)
    assert run(transport, as_of="resume", dry_run=True).as_of.isoformat() == AS_OF, "as of what a real one would be"
    assert bool(project.remove_local_runs()) == (transport == "rest")
    run(transport)
    assert not project.remove_local_runs()


@pytest.mark.slow
def test_a_killed_dry_run_s_folder_goes_with_the_next_run(project: Project, demo: DemoCounts) -> None:
    env = project.env("postgres")
    assert run_in_child(env, AS_OF, kill_after="Clean posts") == -9
    (folder,) = (project.folder / "data" / "runs").glob("*/*")
    dry = folder.with_name("dry-0a1b2c3d")
    shutil.move(folder, dry)
    assert run_in_child(env, AS_OF) == 0
    assert not project.remove_local_runs()


def test_a_reading_that_a_committed_run_has_overtaken_is_not_continued(
    project: Project, demo: DemoCounts, run: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run is restarted by its id after another machine's has committed: who was gone by then does not come back."""
    with monkeypatch.context() as patch:
        patch.setattr(stages, "build_the_reports", _fail)
        with pytest.raises(WriteError) as caught:
            run("rest")
    gone = project.stack.query("select id from users where created_at < '2026-01-01' order by id limit 1")
    project.stack.query(f"delete from posts where user_id = '{gone}'; delete from users where id = '{gone}'")
    committed = run("rest", ETL_DATA_DIR=str(project.folder / "another machine"), ETL_PART_ROWS=1_000)
    again = run("rest", resume_runs=(caught.value.run_id,), ETL_PART_ROWS=500_000)
    assert again.current
    assert project.stack.query(f"select count(*) from clean_users where id = '{gone}'") == "0"
    assert (again.as_of, again.snapshot_at > committed.snapshot_at) == (committed.as_of, True)
