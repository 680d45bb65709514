"""A product with migrations of its own and the real Supabase CLI: its `db push` succeeds before and after ours."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Protocol

import pytest

from deploy.migrations import copy_into, migrate, migrations, rollback
from local_stack import npm
from local_stack.home import lock_file
from local_stack.postgres import query
from scripts.migrations import main
from tasks.contracts import dictionary
from tasks.errors import ConfigurationError
from tests.migrations.test_migrations import OBJECTS

pytestmark = pytest.mark.slow

CLI = Path(__file__).with_name("cli")
INSTALLED = CLI / "node_modules" / ".bin" / "supabase"
HISTORY = "select version from supabase_migrations.schema_migrations order by 1"


class Push(Protocol):
    """`supabase db push` of a folder to a database; its output. Fails the test when it exits with another code."""

    def __call__(self, product: Path, url: str, *, code: int = 0) -> str: ...


class Cli(Protocol):
    """A command of the Supabase CLI in a folder; its output. Fails the test when it exits with another code."""

    def __call__(self, product: Path, *arguments: str, code: int = 0) -> str: ...


@pytest.fixture(scope="session")
def cli() -> Cli:
    """The real one, installed from npm once (142 MB)."""
    with lock_file(CLI / ".install.lock", "Another test installs the CLI", print):
        if not INSTALLED.exists():
            program = npm.node().parents[1] / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
            command = [str(npm.node()), str(program), "install", "--no-package-lock", "--no-audit", "--no-fund"]
            done = subprocess.run(command, cwd=CLI, capture_output=True, text=True, check=False)
            if done.returncode:
                pytest.skip(f"npm does not give the Supabase CLI: {done.stderr[-200:]}")

    def run(product: Path, *arguments: str, code: int = 0) -> str:
        command = [str(npm.node()), str(INSTALLED.resolve()), *arguments, "--yes", "--workdir", str(product)]
        env = {**os.environ, "DO_NOT_TRACK": "1", "HOME": str(product)}
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    return run


@pytest.fixture(scope="session")
def push(cli: Cli) -> Push:
    """Its `db push`."""

    def run(product: Path, url: str, *, code: int = 0) -> str:
        return cli(product, "db", "push", f"--remote={url}", code=code)

    return run


@pytest.fixture
def product(tmp_path: Path) -> Path:
    """The folder of a product that has migrated once."""
    folder = tmp_path / "supabase" / "migrations"
    folder.mkdir(parents=True)
    (tmp_path / "supabase" / "config.toml").write_text('project_id = "product"\n')
    (folder / "20260101000000_own.sql").write_text("create table public.parcels (id uuid primary key);\n")
    return tmp_path


def test_make_migrate_leaves_the_products_history_whole(project: str, product: Path, push: Push) -> None:
    push(product, project)
    migrate(project)
    later = product / "supabase" / "migrations" / "20260102000000_more.sql"
    later.write_text("alter table public.parcels add column price int;\n")
    push(product, project)
    assert query(project, HISTORY).split() == ["20260101000000", "20260102000000"]
    assert migrate(project) == []
    rollback(project)
    push(product, project)


def test_our_files_in_the_products_folder_are_pushed_with_it(
    project: str, product: Path, push: Push, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = product / "supabase" / "migrations"
    push(product, project)
    monkeypatch.chdir(product)  # no .env
    assert main(["new", "--into", str(folder)]) == 0
    said = capsys.readouterr().out
    assert said.count("written: ") == len(migrations()) == len(list(folder.iterdir())) - 1
    query(project, "create table public.daily_activity (date date primary key, visits int not null)")
    assert "There is already the table public.daily_activity. " in push(product, project, code=1)
    query(project, "alter table public.daily_activity rename to visits")
    push(product, project)
    assert migrate(project) == [], "the files note themselves as applied"
    assert len(query(project, HISTORY).split()) == len(migrations()) + 1
    renamed = sorted(folder.iterdir())[2]
    renamed.rename(renamed.with_name(f"{renamed.name[:14]}_etl.sql"))
    assert copy_into(folder) == [], "a copy is known by what it does, whatever it is called"
    last = max(folder.iterdir()).name.partition("_")[0]
    (folder / f"{int(last) + 1}_more.sql").write_text("alter table public.parcels add column price int;\n")
    push(product, project)
    assert query(project, "select count(price) from public.parcels") == "0"


def test_a_rollback_names_what_the_products_folder_and_history_still_have(
    project: str, product: Path, push: Push, cli: Cli
) -> None:
    """It said nothing: the next push failed without the files, and made all of it again elsewhere with them."""
    folder, said = product / "supabase" / "migrations", list[str]()
    copies = copy_into(folder)
    push(product, project)
    rollback(project, say=said.append)
    assert f"lists {len(copies)} copies of our files" in said[0]
    (pattern,) = re.findall(r"Remove (\S+) from", said[0])
    for path in folder.glob(pattern):
        path.unlink()
    assert [path.name for path in folder.iterdir()] == ["20260101000000_own.sql"]
    assert "not found in local migrations directory" in push(product, project, code=1)
    cli(product, *said[-1].split()[1:], f"--remote={project}")
    push(product, project)
    assert query(project, HISTORY) == "20260101000000"
    said.clear()
    rollback(project, say=said.append)
    assert said == []


def test_pushed_and_migrated_databases_are_the_same(project: str, product: Path, push: Push) -> None:
    migrate(project)
    by_us = query(project, OBJECTS)
    copy_into(product / "supabase" / "migrations")
    push(product, project)
    ours = [line for line in query(project, OBJECTS).splitlines() if "parcels" not in line]
    assert ours == by_us.splitlines(), "what is applied already does nothing"
    rollback(project)
    query(project, "drop table public.parcels; drop schema supabase_migrations cascade")
    push(product, project)
    ours = [line for line in query(project, OBJECTS).splitlines() if "parcels" not in line]
    assert ours == by_us.splitlines()


def test_our_own_folder_can_be_pushed_to_an_empty_project(project: str, tmp_path: Path, push: Push) -> None:
    shutil.copytree(Path(__file__).parents[2] / "supabase", tmp_path / "supabase")
    push(tmp_path, project)
    assert migrate(project) == []
    assert "up to date" in push(tmp_path, project)


def test_a_file_that_cannot_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(path: Path, *_: object, **__: object) -> int:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "write_text", refuse)
    assert main(["new", "--into", str(tmp_path)]) == dictionary.main() == 1
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith(f"error: {tmp_path}/2")
    assert first.endswith("_roles.sql cannot be written: Permission denied.")
    assert second.endswith("versions.json cannot be written: Permission denied.")


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="is no folder"):
        copy_into(tmp_path / "nowhere")
