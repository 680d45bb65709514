"""What the commands show: on terminals of two widths, in a pipe, with -v, and of a run that readers do not see."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
from rich.console import Console

from data.demo import DemoCounts
from flows import nightly
from flows.terminal.summary import show
from scripts import run as scripts_run
from tasks.errors import ReadError
from tasks.read import read_report
from tests.flows.test_report_page import OUTCOME
from tests.pipeline.conftest import Runner
from tests.pipeline.kit import Project
from tests.terminal.pty_command import in_terminal, lines

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
NIGHTLY = [sys.executable, "-m", "flows.nightly"]
FIRST, LATER = "2026-01-15", "2026-01-31"


def environment(project: Project) -> dict[str, str]:
    """Every setting at its default, without a server."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "ETL_", "SUPABASE_"))}
    folders = {"ETL_DATA_DIR": str(project.folder / "data"), "PREFECT_HOME": str(project.folder / "prefect")}
    return {**kept, **project.access, **folders}


def in_pipe(project: Project, *arguments: str) -> subprocess.CompletedProcess[str]:
    line = [*NIGHTLY, *arguments]
    return subprocess.run(
        line, cwd=ROOT, env=environment(project), capture_output=True, text=True, timeout=300, check=False
    )


@pytest.mark.parametrize("columns", [80, 120])
def test_a_terminal_shows_bars_then_a_summary_and_nothing_twice(
    columns: int, project: Project, demo: DemoCounts
) -> None:
    code, written = in_terminal([*NIGHTLY, "--as-of", "midnight"], environment(project), columns=columns, cwd=ROOT)
    shown = lines(written)
    assert code == 0, shown[-5:]
    assert max(map(len, shown)) <= columns
    assert any(line.startswith("✓ Read posts") for line in shown)
    assert not [line for line in shown if "stage=" in line or " INFO " in line]
    panel = shown[next(n for n, line in enumerate(shown) if line.startswith("╭─ Readers now see this run")) :]
    assert panel[-1].startswith("╰")
    assert {len(line) for line in panel} == {len(panel[0])}, "a line that wraps breaks the frame"
    text = " ".join(line.strip("│ ") for line in panel)
    assert "whole days up to and including" in text
    assert f"{demo.users.kept:,}" in text
    assert "over Postgres" in text
    assert "HTTP" not in text
    assert "Read posts" not in text, "the stages stand above already"
    assert 'read_report("daily_activity").tail()' in text


def test_a_pipe_gets_plain_lines(project: Project, demo: DemoCounts) -> None:
    done = in_pipe(project, "--as-of", LATER)
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout + done.stderr
    assert not set("╭│━") & set(done.stdout + done.stderr)
    meaning, *said = done.stderr.splitlines()
    assert meaning.startswith("· 2026-01-31 is the midnight with which 31 January begins")
    assert all(line.startswith("✓ ") for line in said), said
    assert any(line.startswith("✓ Read posts: ") and line.endswith(" rows") for line in said)
    assert done.stdout.startswith("Readers now see this run.\n")
    assert "up to and including Friday, 30 January 2026." in done.stdout


def test_the_log_is_shown_with_v_only_and_instead_of_the_stages(project: Project, demo: DemoCounts) -> None:
    done = in_pipe(project, "--dry-run", "-v")
    assert done.returncode == 0, done.stderr
    assert "INFO stage='Read posts'" in done.stderr
    assert "✓" not in done.stderr
    assert done.stdout.startswith("A dry run: everything was checked, nothing was written.\n")


def test_a_historical_run_shows_how_to_read_that_run_and_compares_it_with_nothing(
    project: Project, demo: DemoCounts, run: Runner
) -> None:
    current = run(as_of=f"{LATER}T00:00:00+00:00")
    done = in_pipe(project, "--as-of", FIRST)
    assert done.returncode == 0, done.stderr
    assert "cover whole days up to and including 14 January; for 15 January say --as-of 2026-01-16." in done.stderr
    text = " ".join(done.stdout.split())
    assert text.startswith(f"Readers still see run {current.run_id}, because this one is as of an earlier instant.")
    assert "up to and including Wednesday, 14 January 2026." in text
    assert "since the run" not in text
    code = done.stdout[done.stdout.index("  from tasks.read") :].strip().splitlines()
    assert ', run="' in code[1]
    assert current.run_id not in code[1]
    a_day_means_the_same_to_readers(project, run)
    reader = "\n".join(line.strip() for line in code).replace("read_report(", "print(read_report(") + ")"
    read = subprocess.run(
        [sys.executable, "-c", reader], cwd=ROOT, env=environment(project), capture_output=True, text=True, check=False
    )
    assert "2026-01-14" in read.stdout, read.stderr


def a_day_means_the_same_to_readers(project: Project, run: Runner) -> None:
    """There is a run as of 2026-01-15, which ends with the 14th; the 15th takes one that is as of the 16th."""

    def last_day(as_of: str) -> str:
        return str(read_report("daily_activity", as_of=as_of, settings=project.settings())["date"].iloc[-1])[:10]

    assert last_day("2026-01-14") == "2026-01-14"
    with pytest.raises(ReadError, match="a day names the run whose reports end with it") as caught:
        last_day("2026-01-15")
    assert "--as-of 2026-01-16" in caught.value.remedy
    run(as_of="2026-01-16T00:00:00+00:00")
    assert last_day("2026-01-15") == "2026-01-15"


def test_a_failure_is_reported_once_and_marks_its_stage(project: Project, demo: DemoCounts) -> None:
    project.stack.query("alter table public.posts rename to posts_moved")
    try:
        code, written = in_terminal(NIGHTLY, environment(project), columns=100, cwd=ROOT)
    finally:
        project.stack.query("alter table public.posts_moved rename to posts")
    shown = lines(written)
    assert code == 1
    assert any(line.startswith("✗ Check sources") for line in shown)
    found = [line for line in shown if "public.posts" in line]
    assert len(found) == 1, shown
    assert not any("Traceback" in line for line in shown)


@pytest.mark.parametrize("columns", [80, 120])
def test_the_addresses_of_pages_are_whole_where_a_server_stays(columns: int) -> None:
    run = "http://127.0.0.1:4200/runs/flow-run/0692f0f8-7c1c-7d35-8000-3f9d5b9a0c11"
    console = Console(width=columns, force_terminal=True, color_system=None, file=io.StringIO())
    show(replace(OUTCOME, page=run, history=()), console)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert f"  {run} " in shown
    assert "  http://127.0.0.1:4200/artifacts/key/latest-report " in shown
    assert {len(line) for line in shown.splitlines()} == {len(shown.splitlines()[0])}


@pytest.mark.parametrize(
    ("command", "prog"), [(nightly, "python -m flows.nightly"), (scripts_run, "python -m scripts.run")]
)
def test_help_says_the_exit_codes_and_what_a_day_means(
    command: ModuleType, prog: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as ended:
        command.main(["--help"])
    said = capsys.readouterr().out.splitlines()
    assert ended.value.code == 0
    for code, word in ((0, "committed"), (1, "failed"), (2, "usage"), (3, "held"), (4, "declined"), (130, "Ctrl-C")):
        assert any(line.split()[:1] == [str(code)] and word in line for line in said), code
    text = " ".join(" ".join(said).split())
    assert prog in text
    assert "if it failed, else midnight (default: now)" in text
    assert "2026-02-01 covers whole days up to and including 2026-01-31" in text
    assert max(map(len, said)) <= 80
