"""The environment and `.env` before there are settings: whose value counts, and a file that cannot be read."""

from __future__ import annotations

import gc
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from deploy.prefect_services import ServiceError
from deploy.project import PREFECT
from flows.nightly import main as nightly_command
from local_stack import StackError, down
from local_stack.home import lock_file
from scripts.bootstrap import main as bootstrap
from scripts.doctor import main as doctor_command
from scripts.run import _prefect
from tasks.errors import SettingsError
from tasks.settings import load_settings, reader_settings
from tasks.settings.environment import OF_COMMANDS, file_values, prefect_api_url, set_up_commands

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    return tmp_path / ".env"


def test_the_server_is_that_of_the_environment_else_of_the_file_and_empty_is_not_set(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert prefect_api_url() == ""
    file.write_text("PREFECT_API_URL=http://127.0.0.1:4200/api\n")
    assert prefect_api_url() == "http://127.0.0.1:4200/api"
    monkeypatch.setenv("PREFECT_API_URL", " ")
    assert prefect_api_url() == "http://127.0.0.1:4200/api"
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:4201/api")
    assert prefect_api_url() == "http://127.0.0.1:4201/api"


@pytest.mark.parametrize("path", ["~/nightly", "nightly"])
def test_where_workers_find_the_code_is_read_from_the_file_too(
    path: str, file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As all else of the bootstrap is: there it was taken for a name that is known, and passed over."""
    monkeypatch.delenv("ETL_PROJECT_DIR", raising=False)
    file.write_text(f"PREFECT_API_URL=http://127.0.0.1:9/api\nETL_PROJECT_DIR={path}\n")
    try:
        assert bootstrap([]) == 2
    finally:
        gc.enable()  # which the command does without
    assert "error: ETL_PROJECT_DIR is no whole path" in capsys.readouterr().err


def test_a_command_sets_what_prefect_reads_but_not_what_is_set_and_no_empty_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in OF_COMMANDS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DO_NOT_TRACK", "0")
    monkeypatch.setenv("PREFECT_API_URL", "")
    set_up_commands()
    assert {name: os.environ[name] for name in OF_COMMANDS} == {**OF_COMMANDS, "DO_NOT_TRACK": "0"}
    assert "PREFECT_API_URL" not in os.environ
    for name in OF_COMMANDS:
        monkeypatch.delenv(name)  # back to what was


def test_make_run_takes_the_server_of_the_file_and_starts_none(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text("PREFECT_API_URL=http://127.0.0.1:9/api\n")
    for name, value in {**PREFECT, "PREFECT_HOME": str(file.parent)}.items():
        monkeypatch.setenv(name, value)
    with _prefect() as server:
        assert server.stays
    assert "PREFECT_API_URL" not in os.environ


@pytest.mark.parametrize("line", ["{0}={1}", 'export {0}="{1}"  # mine', " {0} = '{1}' "])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_file_is_read_as_editors_write_it(
    encoding: str, line: str, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"PREFECT_API_URL": "http://127.0.0.1:9/api", "SUPABASE_URL": "https://x.supabase.co", "ETL_RANGES": "2"}
    written = "\r\n".join(line.format(*pair) for pair in given.items())
    file.write_bytes(written.encode(encoding))
    monkeypatch.setenv("SUPABASE_SERVICE_KEY", "sb_secret_x")
    settings = load_settings()
    assert (settings.supabase_url, settings.ranges) == (given["SUPABASE_URL"], 2)
    assert reader_settings().ranges == 2
    assert prefect_api_url() == given["PREFECT_API_URL"]
    with monkeypatch.context() as patch:
        patch.setattr(os, "environ", dict(os.environ))
        set_up_commands()
        assert os.environ.get("PREFECT_API_URL") == (given["PREFECT_API_URL"] if encoding == "utf-8-sig" else None)


WRONG = {
    "a quote that is not closed": (b'ETL_RANGES=2\nSUPABASE_URL="https://x.supabase.co\nETL_WRITERS=1\n', "at line 2:"),
    "Latin-1": ("# café\n".encode("latin-1"), "is not in UTF-8."),
    "UTF-16": ("ETL_RANGES=2\n".encode("utf-16"), "is not in UTF-8."),
}


@pytest.mark.parametrize(("content", "said"), WRONG.values(), ids=WRONG)
def test_a_file_that_cannot_be_read_is_said_once(
    content: bytes, said: str, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_bytes(content)
    for read in (file_values, load_settings, set_up_commands):
        with pytest.raises(SettingsError, match=said):
            read()
    if "UTF-8" in said:
        with pytest.raises(SettingsError, match=said):
            reader_settings()
    assert nightly_command(["--dry-run"]) == 2
    assert capsys.readouterr().err.count(".env") == 1


@contextmanager
def _as_an_account_that_may_not_read(file: Path) -> Iterator[None]:
    """Root may read whatever its mode: then as another account, for the block."""
    file.chmod(0)
    "".encode("utf-8-sig")  # Python loads its codec when it is used first, from a folder that may be root's
    before = os.geteuid()
    if before == 0:
        os.seteuid(65_534)
    try:
        yield
    finally:
        os.seteuid(before)


@pytest.mark.parametrize("path", [".env", "data/local/project.env", "data/local"])
def test_a_file_of_another_account_is_said(path: str, file: Path) -> None:
    """As in somebody else's clone: a reader's settings ended in a traceback."""
    file.parent.joinpath("data/local").mkdir(parents=True)
    for name in (".env", "data/local/project.env"):
        file.parent.joinpath(name).write_text("ETL_RANGES=2\n")
    file.parent.chmod(0o711)
    words = "The file .env cannot be read" if path == ".env" else "data/local/project.env cannot be read"
    with _as_an_account_that_may_not_read(file.parent / path), pytest.raises(SettingsError, match=words):
        reader_settings()


def test_a_local_stack_of_another_account_is_said(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PREFECT_HOME", "data/local/prefect")
    for part in ("stack", "prefect"):
        file.parent.joinpath("data/local", part).mkdir(parents=True)
    file.parent.chmod(0o711)
    with _as_an_account_that_may_not_read(file.parent / "data/local"):
        assert doctor_command([]) == 1
        with pytest.raises(ServiceError, match="data/local/prefect cannot be made or written"), _prefect():
            pass
        with pytest.raises(StackError, match="belongs to another user"), lock_file(Path("data/local/x"), "", print):
            pass
        with pytest.raises(StackError, match="data/local/stack belongs to another user"):
            down("data/local/stack")
    assert "✗" in capsys.readouterr().err


def test_a_wrong_key_of_a_reader_is_named_without_its_value(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUPABASE_KEY", "two words")
    with pytest.raises(SettingsError, match="SUPABASE_KEY: holds a character that no key has") as caught:
        reader_settings()
    assert "two words" not in str(caught.value)


@pytest.mark.parametrize(
    "command", [["flows.export"], ["scripts.watch"], ["scripts.migrations"], ["flows.nightly", "--json"]], ids=" ".join
)
def test_it_is_said_before_prefect_is_imported(command: list[str], file: Path) -> None:
    file.write_bytes("# café\n".encode("latin-1"))
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-m", *command], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "✗ The file .env is not in UTF-8.\n  Save it as UTF-8; nothing was started.\n"
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    said = [(line["status"], line["error"], line["remedy"]) for line in lines]
    assert said == [("failed", *re.findall(r"^[✗ ] (?: )?(.+)$", done.stderr, re.MULTILINE))] * ("--json" in command)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("given", "of_file", "command", "says"),
    [
        (
            {"PREFECT_LOGGING_LEVEL": "verbose"},
            "",
            "flows.nightly --json",
            "PREFECT_LOGGING_LEVEL: Input should be 'DEBU",
        ),
        ({"PREFECT_UI_ENABLED": "hm"}, "", "scripts.ui", "PREFECT_UI_ENABLED: Input should be a valid boolean"),
        ({}, "prefect_api_request_timeout=hm", "scripts.run", "PREFECT_API_REQUEST_TIMEOUT: Input should be a valid n"),
        (
            {"PREFECT_CLIENT_CUSTOM_HEADERS": "hm"},
            "",
            "scripts.doctor",
            "PREFECT_CLIENT_CUSTOM_HEADERS: This is no JSON",
        ),
        (
            {"PREFECT_LOGGING_TO_API_BATCH_SIZE": "5"},
            "",
            "flows.export",
            "its settings: `PREFECT_LOGGING_TO_API_MAX_LOG",
        ),
    ],
)
def test_a_value_that_prefect_refuses_is_a_sentence(
    given: dict[str, str], of_file: str, command: str, says: str, file: Path
) -> None:
    """Each was a traceback of pydantic's, or of `make ui` a server that did not start."""
    file.write_text(of_file)
    env = {**os.environ, "PYTHONPATH": str(ROOT), **given}
    line = [sys.executable, "-m", *command.split()]
    done = subprocess.run(line, env=env, capture_output=True, text=True, check=False, timeout=60)
    assert done.stderr.startswith(f"✗ Prefect refuses {says}")
    assert (done.returncode, done.stderr.count("\n"), "hm" in done.stderr) == (2, 2, False)


@pytest.mark.usefixtures("hears_ctrl_c")
@pytest.mark.parametrize("module", ["flows.nightly", "scripts.run", "local_stack", "data.demo"])
def test_a_command_that_is_stopped_while_it_imports_says_so(module: str) -> None:
    line = [sys.executable, "-X", "importtime", "-m", module, "--help"]
    with subprocess.Popen(line, cwd=ROOT, stderr=subprocess.PIPE, text=True) as started:
        assert started.stderr
        said = []
        for text in started.stderr:
            said.append(text)
            if text.split("|")[-1].strip() == "tasks.errors":
                started.send_signal(signal.SIGINT)
    assert started.returncode == -signal.SIGINT
    assert "✗ Stopped by hand.\n" in said
    assert not [text for text in said if "Traceback" in text]


def test_an_account_without_a_home_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """As that of a container's arbitrary user: Prefect's import ended in a traceback."""

    def unknown(number: int) -> None:
        raise KeyError(number)

    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", unknown)
    with pytest.raises(SettingsError, match="HOME is not set"):
        set_up_commands()


@pytest.mark.parametrize(
    ("encoding", "prints"), [("ascii", "ok +/-0 -1 ?"), ("latin-1", "ok ±0 -1 ?"), ("utf-8", "✓ ±0 −1 ł")]
)
def test_a_command_prints_on_a_terminal_of_any_encoding(tmp_path: Path, encoding: str, prints: str) -> None:
    """A whole night ended in a traceback, at the ± of its summary."""
    probe = tmp_path / "probe"
    probe.mkdir()
    (probe / "__init__.py").write_text("import tasks.platform.early", encoding="utf-8")
    (probe / "__main__.py").write_text("print('✓ ±0 −1 ł')", encoding="utf-8")
    env = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}", "PYTHONIOENCODING": encoding}
    done = subprocess.run([sys.executable, "-m", "probe"], env=env, capture_output=True, check=False, timeout=60)
    assert done.stdout.decode(encoding) == f"{prints}\n", done.stderr


@pytest.mark.parametrize("name", ["localtime", "Factory"])
def test_the_time_of_this_machine_is_no_time_zone_also_where_a_file_of_that_name_is(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.settings.schedule.available_timezones", lambda: {name, "Europe/Berlin"})
    monkeypatch.setenv("ETL_TIMEZONE", name)
    with pytest.raises(SettingsError, match="ETL_TIMEZONE: is another time on each machine"):
        load_settings()


@pytest.mark.slow
@pytest.mark.parametrize("nowhere", ["&-", "/dev/full"])
def test_a_command_that_nobody_hears_ends_as_it_would(nowhere: str) -> None:
    """A full disk of logs ended a night at its first line, without the line of JSON."""
    line = f"{sys.executable} -m flows.nightly --json --as-of yesterday 2>{nowhere}"
    done = subprocess.run(["bash", "-c", line], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, json.loads(done.stdout)["status"]) == (2, "failed")
