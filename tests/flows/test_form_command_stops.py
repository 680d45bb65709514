"""Ctrl-C in a terminal goes to a command and to the server that Prefect starts for it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.engine import prefect_api
from flows.engine.form_command import run_form
from flows.forms import ExportForm

ROOT = Path(__file__).parents[2]
DEAD = {"SUPABASE_URL": "http://127.0.0.1:9", "SUPABASE_SERVICE_KEY": "sb_secret_hush"}


def test_the_server_of_a_command_does_not_hear_ctrl_c_and_the_command_does(monkeypatch: pytest.MonkeyPatch) -> None:
    blocked: list[int] = []

    def get_client(**_: Any) -> None:
        said = subprocess.run(["grep", "SigBlk", "/proc/self/status"], capture_output=True, text=True, check=True)
        blocked.append(int(said.stdout.split()[1], 16))

    monkeypatch.setattr(prefect_api, "get_client", get_client)
    with temporary_settings({PREFECT_API_URL: None}):
        prefect_api.start_own_server()
    assert [bool(mask & 1 << signal.SIGINT - 1) for mask in blocked] == [True]
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_what_goes_wrong_when_it_starts_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    def get_client(**_: Any) -> None:
        raise RuntimeError("Timed out while attempting to connect to ephemeral Prefect API server.")

    monkeypatch.setattr(prefect_api, "get_client", get_client)
    with temporary_settings({PREFECT_API_URL: None}), pytest.raises(RuntimeError, match="Timed out"):
        prefect_api.start_own_server()


def test_a_stop_that_prefect_could_not_record_is_a_stop(capsys: pytest.CaptureFixture[str]) -> None:
    def flow(options: ExportForm) -> None:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            raise RuntimeError("Failed to reach API at http://127.0.0.1:8111/api/") from None

    assert run_form(flow, ExportForm, "export", []) == 130
    assert capsys.readouterr().err.startswith("✗ Stopped by hand.")


@pytest.mark.soak
def test_ctrl_c_ends_a_command_with_a_server_of_its_own(tmp_path: Path) -> None:
    env = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    env |= {**DEAD, "PYTHONPATH": str(ROOT), "PREFECT_HOME": str(tmp_path / "prefect"), "ETL_RETRY_BASE": "20"}
    line = [sys.executable, "-m", "flows.backfill", "--no-dry-run"]
    with subprocess.Popen(
        line, cwd=tmp_path, env=env, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as running:
        assert running.stderr
        said = []
        for text in running.stderr:
            said.append(text)
            if "Try 2 in" in text:
                os.killpg(running.pid, signal.SIGINT)
    assert running.returncode == 130
    assert "✗ Stopped by hand.\n" in said
    wrong = ("Traceback", "telemetry", "connection attempts failed")  # the last: nobody records the end
    assert not [text for text in said if any(word in text for word in wrong)]
