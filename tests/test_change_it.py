"""The README's *Change it*, followed to the letter in a copy: a column, a rule, a report, a table are added."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from local_stack import down
from local_stack.postgres import query
from tests.change_it import change, edit
from tests.conftest import temporary_home

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
FOLDERS = ("tasks", "flows", "deploy", "scripts", "local_stack", "supabase", "data", "tests", "docs", "bench", "api")
FILES = ("pyproject.toml", "prefect.yaml", "README.md", "CHANGELOG.md", "requirements.txt", "Makefile", ".env.example")
NODE_MODULES = Path("local_stack") / "lite" / "node_modules"

ROWS = """
insert into public.users (id, name, country, created_at) values
  ('00000000-0000-4000-8000-000000000001', 'Ann', ' de ', '2026-01-01'),
  ('00000000-0000-4000-8000-000000000002', 'Bob', null, '2026-01-02');
insert into public.posts (user_id, content, created_at) values
  ('00000000-0000-4000-8000-000000000001', 'one two', '2026-01-03');
insert into public.comments (id, note, stars, created_at) values
  (1, '  fine ', 5, '2026-01-04'), (2, null, null, '2026-01-04'), (3, 'late', 1, null),
  (4, 'good', 4, '2026-01-05'), (5, 'bad', 1, '2026-01-06');"""


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository, with the README's changes made and its commands run."""
    folder = tmp_path_factory.mktemp("copy")
    ignore = shutil.ignore_patterns("__pycache__", "node_modules", "local", "*.ipynb")
    for name in FOLDERS:
        if (ROOT / name).exists():
            shutil.copytree(ROOT / name, folder / name, ignore=ignore)
    for name in FILES:
        shutil.copy(ROOT / name, folder / name)
    (folder / NODE_MODULES).symlink_to(ROOT / NODE_MODULES)
    change(folder)
    run(folder, "-m", "scripts.migrations", "new", "--name", "country_and_comments")
    run(folder, "-m", "tasks.contracts.dictionary")
    return folder


def run(folder: Path, *arguments: str, **env: str) -> str:
    """A command of the copy; its output. Fails the test when it exits with another code than 0."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "SUPABASE_", "ETL_"))}
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=folder, env={**clean, **env}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def env(copy: Path) -> Iterator[dict[str, str]]:
    """The settings of a stack that the copy started, with a few rows in its sources."""
    with temporary_home() as home:
        code = "import json, sys; from local_stack import up; print(json.dumps(up(sys.argv[1], empty=True).env()))"
        found: dict[str, str] = json.loads(run(copy, "-c", code, str(home)))
        query(found["SUPABASE_DB_URL"], ROWS)
        yield {**found, "ETL_DATA_DIR": str(copy / "runs"), "ETL_RETRY_BASE": "0.05"}
        down(home)


def night(copy: Path, env: dict[str, str], transport: str, *more: str) -> dict[str, Any]:
    said = run(copy, "-m", "flows.nightly", "--transport", transport, "--as-of", "2026-01-31", "--json", *more, **env)
    outcome: dict[str, Any] = json.loads(said.splitlines()[-1])
    return outcome


@pytest.fixture(scope="module")
def first_night(copy: Path, env: dict[str, str]) -> Callable[[str], dict[str, Any]]:
    """The outcome of the first night of a transport; the first to ask runs it."""
    return cache(lambda transport: night(copy, env, transport))


def test_the_table_names_what_was_changed() -> None:
    section = (ROOT / "README.md").read_text().partition("## Change it")[2].partition("\n## ")[0]
    lines = re.findall(r"^\| (.+?) \| (.+?) \|", section, re.MULTILINE)[1:]
    assert [to.partition(" (")[0] for to, _ in lines] == [
        "use other table or column names, a bigint key, no `bio`",
        "add a column",
        "add a cleaning rule",
        "add a report",
        "add a table",
    ]
    assert [("`version`" in edit) for _, edit in lines] == [True, True, False, False, False]
    for path in re.findall(r"`(tasks/[\w/.]+)`", section):
        assert (ROOT / path).exists()


def test_the_copys_own_tests_pass(copy: Path) -> None:
    tests = ["tests/test_contracts.py", "tests/read/test_dictionary.py", "tests/cleaning/test_text.py"]
    drift = "tests/migrations/test_migrations.py::test_the_contracts_ask_for_nothing_beyond_the_last_migration"
    derived = [
        f"tests/reports/test_recomputed.py::test_{name}" for name in ("all_is_derived_a_second_time", "hostile_rows")
    ]
    run(copy, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests, drift, *derived)


@pytest.mark.parametrize("transport", ["rest", "postgres"])
def test_a_night_has_the_column_the_rule_the_report_and_the_table(
    copy: Path, env: dict[str, str], first_night: Callable[[str], dict[str, Any]], transport: str
) -> None:
    url = env["SUPABASE_DB_URL"]
    outcome = first_night(transport)
    assert outcome["status"] == "committed"
    comments = outcome["tables"]["comments"]
    assert (comments["read"], comments["kept"], comments["rejected"]) == (5, 3, 2)
    assert query(url, "select name, country from public.clean_users order by id").splitlines() == ["Ann|DE", "Bob|"]
    assert query(url, "select id, note, stars from public.clean_comments order by id limit 1") == "1|fine|5"
    rejected = "select key, rule from public.etl_rejects where \"table\" = 'comments' order by 1"
    assert query(url, rejected).splitlines() == ["2|invalid_value", "3|missing_created_at"]
    code = (
        "import json; from tasks.read import read_report, read_table;"
        "print(read_report('table_sizes', engine='arrow').to_pylist());"
        "print(read_table('comments', engine='arrow').column_names);"
        "quality = read_report('data_quality', engine='arrow').to_pylist();"
        "print([(row['table'], row['rule']) for row in quality])"
    )
    sizes, columns, quality = run(copy, "-c", code, **env).splitlines()
    assert "{'table': 'comments', 'row_count': 3}" in sizes
    assert columns == "['id', 'has_note', 'stars', 'created_at']"
    assert "('users', 'capital_country')" in quality
    assert "('comments', 'missing_created_at')" in quality


def test_the_second_night_writes_nothing_and_the_first_deletes(
    copy: Path, env: dict[str, str], first_night: Callable[[str], dict[str, Any]]
) -> None:
    first_night("rest")
    again = first_night("postgres")["tables"]["comments"]
    assert (again["inserted"], again["updated"], again["unchanged"]) == (0, 0, 3)
    query(env["SUPABASE_DB_URL"], "delete from public.comments where id = 1")
    assert night(copy, env, "rest")["tables"]["comments"]["deleted"] == 1


def test_a_full_night_finds_what_somebody_changed_by_hand_in_a_further_table(
    copy: Path, env: dict[str, str], first_night: Callable[[str], dict[str, Any]]
) -> None:
    first_night("rest")
    query(env["SUPABASE_DB_URL"], "update public.comments set note = 'better' where id = 4")
    changed = night(copy, env, "postgres")
    assert (changed["mode"], changed["tables"]["comments"]["updated"]) == ("incremental", 1)
    query(env["SUPABASE_DB_URL"], "update public.clean_comments set note = 'by hand' where id = 5")
    audited = night(copy, env, "rest", "--full-refresh")
    assert (audited["drifted"], audited["tables"]["comments"]["updated"]) == (1, 1)


def test_a_night_where_the_database_has_a_datestyle_of_its_own_is_full_and_no_failure(
    copy: Path, env: dict[str, str], first_night: Callable[[str], dict[str, Any]]
) -> None:
    """It was called a defect, in the audit, each night again."""
    first_night("postgres")
    url, badges = env["SUPABASE_DB_URL"], '"Further tables"."Badge %s"'
    query(url, f'insert into {badges} ("badgeId", weight, "givenAt") values (gen_random_uuid(), 1, now())')
    assert night(copy, env, "postgres")["tables"]["badges"]["inserted"] == 1
    query(url, f"update {badges} set weight = 2; alter database postgres set datestyle = 'German'")
    try:
        changed = night(copy, env, "postgres")
    finally:
        query(url, "alter database postgres reset datestyle")
    assert changed["full_because"] == "the database writes given_at of badges in a DateStyle other than ISO"
    assert changed["tables"]["badges"]["updated"] == 1


@pytest.mark.timeout(600)
def test_nights_with_further_tables_cost_what_changed_and_leave_what_full_ones_do(copy: Path) -> None:
    """A random history of all four tables, on a stack of the copy's own; its soak plays more."""
    history = "tests/incremental/test_histories.py::test_any_history_gives_what_a_full_night_gives"
    assert "1 passed" in run(copy, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", history, "-k", "0]")


def test_a_forgotten_migration_is_refused_with_the_command(copy: Path, env: dict[str, str]) -> None:
    """Last, as it changes the copy."""
    edit(
        copy / "tasks/contracts/users.py",
        ("        ROW_HASH,\n", '        Column("tier", "text", "Tier."),\n        ROW_HASH,\n'),
    )
    query(env["SUPABASE_DB_URL"], "alter table public.users add column tier text")
    command = [sys.executable, "-m", "flows.nightly", "--json"]
    done = subprocess.run(command, cwd=copy, env={**os.environ, **env}, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    outcome = json.loads(done.stdout.splitlines()[-1])
    assert "clean_users has no column tier" in outcome["error"]
    assert "`make migration`" in outcome["remedy"]
