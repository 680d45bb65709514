"""Where the result of a command cannot be written, its exit code stays: the run has been committed."""

from __future__ import annotations

import io
import os
import re
import sys
from dataclasses import replace
from typing import Any, TextIO

import pytest
from rich.console import Console

from flows.engine import command
from flows.engine.form_command import run_form
from flows.forms import ExportForm
from flows.terminal.summary import show
from tests.flows.test_report_page import OUTCOME


def closed_pipe() -> TextIO:
    reads, writes = os.pipe()
    os.close(reads)
    return os.fdopen(writes, "w")


def full_disk() -> TextIO:
    return open("/dev/full", "w")


@pytest.mark.parametrize("arguments", [["--json"], []], ids=["json", "summary"])
@pytest.mark.parametrize(
    ("stdout", "why"), [(closed_pipe, "(Broken pipe|nobody reads it)"), (full_disk, "No space left")]
)
def test_a_committed_run_ends_with_0_whoever_reads(
    stdout: Any, why: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SUPABASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("SUPABASE_SERVICE_KEY", "sb_secret_hush")
    with stdout() as out, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", out)
        code = command.main(arguments, prog="nightly", run=lambda options: replace(OUTCOME, stages={}))
        assert run_form(lambda options: {"rows": 3}, ExportForm, "export", []) == 0, "what is left goes nowhere"
    assert code == 0
    assert re.search(f"^! The result could not be written to stdout .{why}", capsys.readouterr().err, re.MULTILINE)


def test_a_summary_needs_no_settings_once_the_run_has_ended(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Somebody edits `.env` while the night runs."""

    def run(options: command.Options) -> Any:
        monkeypatch.setenv("ETL_KEEP_DAYS", "a mon")
        return OUTCOME

    assert command.main([], prog="nightly", run=run) == 0
    said = capsys.readouterr().out
    assert "on the local stack over Postgres" in said
    assert "Reports: bucket `figures`, runs/2026-01-30/r1/reports/" in said


def test_without_stdout_the_run_ends_as_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", None)
        assert command.main(["--json", "--as-of", "9999-12-31"], prog="nightly", run=lambda options: OUTCOME) == 2
        assert run_form(lambda options: {"rows": 3}, ExportForm, "export", []) == 0
        sys.stdout.close()


@pytest.mark.parametrize("columns", [40, 60])
def test_a_narrow_terminal_shows_whole_figures(columns: int) -> None:
    console = Console(width=columns, force_terminal=True, color_system=None, file=io.StringIO())
    show(OUTCOME, console)
    shown = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    figures = next(number for number, line in enumerate(shown) if "figures" in line and "now" in line)
    line = next(line for line in shown[figures:] if "  users  " in line)
    assert "1,100" in line
    assert "+100 (+10.0" in line
