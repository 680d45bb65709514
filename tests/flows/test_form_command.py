"""`python -m flows.…` of the flows with a form: help, a wrong argument, and what a flow answers or fails with."""

from __future__ import annotations

import json
import runpy
import sys
from datetime import date
from typing import Any

import pytest

from flows.engine.command import USAGE, main
from flows.engine.form_command import run_form
from flows.forms import ExportForm, Form
from tasks.errors import PublishError

FLOWS = ["backfill", "compare", "doctor", "export", "restore", "retention"]


@pytest.mark.filterwarnings("ignore:A flow named")  # the module is loaded once more, as the program
@pytest.mark.parametrize("name", FLOWS)
def test_help_starts_nothing(name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    monkeypatch.delitem(sys.modules, f"flows.{name}", raising=False)
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(f"flows.{name}", run_name="__main__")
    assert ended.value.code == 0
    assert f"usage: python -m flows.{name} [-h]" in capsys.readouterr().out


def test_arguments_are_the_forms_fields_and_the_answer_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    seen: list[Form] = []

    def flow(options: ExportForm) -> dict[str, Any]:
        seen.append(options)
        return {"rows": 3}

    given = ["--report", "daily_activity", "--columns", "date", "--date-from", "2026-01-02", "--no-dry-run"]
    assert run_form(flow, ExportForm, "export", given) == 0
    assert seen == [ExportForm(columns=["date"], date_from=date(2026, 1, 2), dry_run=False)]
    assert json.loads(capsys.readouterr().out) == {"rows": 3}
    assert run_form(flow, ExportForm, "export", []) == 0
    assert seen[1] == ExportForm(dry_run=True)


@pytest.mark.parametrize(("day", "says"), [("9999-12-31", "lies in the future"), ("0001-01-01", "before 1970-01-01")])
def test_a_nightly_as_of_the_first_or_last_day_there_is_is_wrong_usage(
    day: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--as-of", day], prog="nightly", run=lambda _: pytest.fail("nothing is started")) == USAGE
    assert says in capsys.readouterr().err


def test_a_mistake_and_a_failure_are_sentences(capsys: pytest.CaptureFixture[str]) -> None:
    def flow(options: ExportForm) -> None:
        raise PublishError("No file was uploaded.", remedy="Ask who operates Storage.")

    assert run_form(flow, ExportForm, "export", ["--report", "nix", "--link-days", "9"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("✗ --report: There is no report 'nix'; there are user_statistics")
    assert "--link-days: Input should be less than or equal to 7." in said
    assert run_form(flow, ExportForm, "export", []) == 1
    assert capsys.readouterr().err == "✗ No file was uploaded.\n  Ask who operates Storage.\n"
    with pytest.raises(SystemExit, match="2"):
        run_form(flow, ExportForm, "export", ["--reprot", "daily_activity"])
