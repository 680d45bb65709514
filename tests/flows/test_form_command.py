"""`python -m flows.…` of the flows with a form: help, a wrong argument, and what a flow answers or fails with."""

from __future__ import annotations

import importlib
import json
import runpy
import sys
import time
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from prefect import Flow
from prefect.logging import disable_run_logger
from prefect.settings import PREFECT_API_URL, PREFECT_HOME, PREFECT_UI_URL, temporary_settings

from flows.doctor import doctor
from flows.engine.artifacts import show_report
from flows.engine.command import USAGE, main
from flows.engine.form_command import run_form
from flows.export import export
from flows.forms import DoctorForm, ExportForm, Form
from flows.nightly import main as nightly_command
from flows.watch import main as watch_command
from scripts.watch import main as watch_script
from tasks.contracts import REPORTS
from tasks.errors import ConfigurationError, PublishError, SettingsError

PROJECT = {"SUPABASE_URL": "http://127.0.0.1:9", "SUPABASE_SERVICE_KEY": "sb_secret_hush"}
FLOWS = ["backfill", "compare", "doctor", "export", "restore", "retention"]


@pytest.mark.parametrize("name", ["scripts.api", "scripts.ui", "scripts.watch"])
def test_a_local_stack_that_cannot_be_made_ready_is_a_sentence(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As after a contract was changed: two of them ended in a traceback."""

    def up(*_: object, **__: object) -> None:
        raise ConfigurationError("The contracts ask for what no migration makes.", remedy="Run `make migration`.")

    monkeypatch.setattr("local_stack.up", up)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    monkeypatch.setattr("deploy.project.PREFECT", {"PREFECT_HOME": str(tmp_path)})
    assert importlib.import_module(name).main([]) == 1
    assert "error: The contracts ask for what no migration makes. Run `make migration`." in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore:A flow named")  # the module is loaded once more, as the program
@pytest.mark.parametrize("name", FLOWS)
def test_help_starts_nothing(name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    monkeypatch.delitem(sys.modules, f"flows.{name}", raising=False)
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(f"flows.{name}", run_name="__main__")
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert f"usage: python -m flows.{name} [-h]" in said
    # What a person types, not what Python or a form calls it.
    python = ("list[str]", "default factory", "None", " str", " date ", " int", "True", "False", "Empty", "Switch it")
    assert [word for word in python if word in said] == []


def test_arguments_are_the_forms_fields_and_the_answer_is_json(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(
        "dry_run", "false"
    )  # of a script around it, for something else: nobody asked for a run that writes
    monkeypatch.setenv("report", "quarterly")
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


def test_a_folder_of_prefects_that_cannot_be_written_is_named_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in PROJECT.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "file").touch()
    home = tmp_path / "file" / "prefect"
    with temporary_settings({PREFECT_API_URL: None, PREFECT_HOME: home}):
        assert run_form(export, ExportForm, "export", []) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"✗ The folder {home} cannot be written, where this command starts a Prefect server.")
    assert "PREFECT_HOME" in said


@pytest.mark.parametrize(("flow", "form"), [(export, ExportForm), (doctor, DoctorForm)])
def test_settings_that_are_missing_are_named_before_a_server_is_started(
    flow: Any, form: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("flows.engine.form_command.start_own_server", lambda: pytest.fail("a server is started"))
    monkeypatch.setattr(Flow, "serve", lambda *_, **__: pytest.fail("a server is started"))
    assert (run_form(flow, form, flow.name, []), watch_command(["--serve"])) == (USAGE, USAGE)
    assert capsys.readouterr().err.count("✗ SUPABASE_URL and SUPABASE_SERVICE_KEY not set.\n") == 2


def test_the_doctor_as_a_command_refers_to_what_it_prints(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in PROJECT.items():
        monkeypatch.setenv(name, value)
    with disable_run_logger():
        assert run_form(doctor.fn, DoctorForm, "doctor", []) == 1
    printed = capsys.readouterr()
    assert "to fix.\n  The doctor's report says what to do" in printed.err
    assert printed.out.startswith("# ")


def test_a_mistake_and_a_failure_are_sentences(capsys: pytest.CaptureFixture[str]) -> None:
    def flow(options: ExportForm) -> None:
        raise PublishError("No file was uploaded.", remedy="Ask who operates Storage.")

    assert run_form(flow, ExportForm, "export", ["--report", "nix", "--link-days", "9"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"✗ --report: There is no report 'nix'; there are {REPORTS[0].name}")
    assert "--link-days: Input should be less than or equal to 7." in said
    assert run_form(flow, ExportForm, "export", []) == 1
    assert capsys.readouterr().err == "✗ No file was uploaded.\n  Ask who operates Storage.\n"
    with pytest.raises(SystemExit, match="2"):
        run_form(flow, ExportForm, "export", ["--reprot", "daily_activity"])


@pytest.mark.parametrize(("server", "has_page"), [("", False), ("https://prefect.example.org/api", True)])
def test_the_page_of_a_failed_run_is_named_where_its_server_stays(
    server: str, has_page: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """A backfill with a server of its own named a page at `None/flow-runs/…`."""

    def flow(options: ExportForm) -> None:
        error = PublishError("No file was uploaded.")
        error.facts = {"page": f"{PREFECT_UI_URL.value()}/flow-runs/flow-run/1"}
        raise error

    with temporary_settings({PREFECT_API_URL: server} if server else {}, restore_defaults={PREFECT_API_URL}):
        assert run_form(flow, ExportForm, "export", []) == 1
    page = "  The run's page: https://prefect.example.org/flow-runs/flow-run/1\n" if has_page else ""
    assert capsys.readouterr().err == f"✗ No file was uploaded.\n{page}"


@pytest.mark.parametrize(
    ("raised", "code", "said"),
    [
        (KeyboardInterrupt(), 130, "✗ Stopped by hand.\n  Readers never see a partial run."),
        (SettingsError("ETL_RANGES: not a number."), 2, "✗ ETL_RANGES: not a number."),
        (KeyError("ann@example.com"), 1, "✗ The command: unexpected KeyError at "),
        (RuntimeError("Timed out while attempting to connect to ephemeral Prefect API server."), 1,
         "✗ The Prefect server that this command starts for itself does not answer. Nothing was read or written."),
    ],
)  # fmt: skip
def test_every_end_is_a_sentence_and_what_was_reported_until_then_is_printed(
    raised: BaseException, code: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("ETL_DATA_DIR", str(tmp_path))

    def flow(options: ExportForm) -> None:
        show_report("# Two days of three", key="export", description="Days.")
        raise raised

    assert run_form(flow, ExportForm, "export", []) == code
    printed = capsys.readouterr()
    assert printed.out == "# Two days of three\n\n"
    assert printed.err.startswith(said)
    assert "example.com" not in printed.err


def test_a_prefect_server_that_does_not_answer_is_named_without_its_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    address = "http://me:hush@127.0.0.1:9/api"
    monkeypatch.chdir(tmp_path)
    Path(".env").write_text(f"PREFECT_API_URL={address}\n")  # where step 1 of the README puts it
    monkeypatch.setenv("PREFECT_API_URL", "")
    for name, value in PROJECT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # of Prefect's client, which tries three times more
    said = "Prefect at PREFECT_API_URL (http://127.0.0.1:9/api) does not answer. Nothing was read or written."
    with temporary_settings({PREFECT_API_URL: address}):
        assert run_form(export, ExportForm, "export", []) == 1
        assert capsys.readouterr().err.startswith(f"✗ {said}\n  Start its server, or unset the variable")
        assert nightly_command(["--dry-run", "--json"]) == 1
        printed = capsys.readouterr()
        assert printed.err.startswith(f"✗ {said}\n")
        assert json.loads(printed.out)["error"] == said
        assert watch_command(["--serve"]) == 1
        assert capsys.readouterr().err.endswith("no server is needed for a command.\n")


@pytest.mark.parametrize(("given", "code"), [(["--help"], 0), (["--health"], 1), (["--nonsense"], 2)])
def test_a_watch_that_is_only_asked_starts_no_stack(
    given: list[str], code: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in PROJECT:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ETL_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    monkeypatch.setattr("deploy.project.PREFECT", {"PREFECT_HOME": str(tmp_path)})
    monkeypatch.setattr("local_stack.up", lambda *_, **__: pytest.fail("a stack is started"))
    monkeypatch.setattr("local_stack.find", lambda _: None)
    try:
        ended: Any = watch_script(given)
    except SystemExit as stop:
        ended = stop.code
    assert ended == code
