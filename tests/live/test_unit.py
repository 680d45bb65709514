"""The systemd unit: systemd itself finds nothing wrong with it, and it starts what is there."""

from __future__ import annotations

import asyncio
import importlib.util
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from flows.engine.watching import Watch
from flows.watch import main as watch_command
from tasks.live.health import notify_systemd
from tasks.platform.functions import RestDatabase
from tasks.platform.identity import identity_of
from tasks.settings import Settings

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "deploy" / "supabase-nightly-watch.service"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    text = UNIT.read_text().replace("/opt/supabase-nightly/.venv/bin/python", sys.executable)
    unit = tmp_path / UNIT.name
    unit.write_text(text.replace("User=etl\n", ""))
    done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False)
    assert UNIT.name not in done.stderr + done.stdout, done.stderr


def test_it_starts_the_watch() -> None:
    (module,) = re.findall(r"^ExecStart=\S+ -m (\S+)$", UNIT.read_text(), re.MULTILINE)
    assert importlib.util.find_spec(module)


def test_a_database_that_is_away_keeps_no_watch_from_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """systemd waits for 90 s, and all tries of a request can take longer."""
    monkeypatch.setattr("tasks.retry.time.sleep", lambda seconds: None)
    settings = Settings(
        _env_file=None, supabase_url="http://127.0.0.1:9", supabase_service_key="sb_secret_x", data_dir=tmp_path
    )
    asked = []

    def away(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        watching.stop()
        raise httpx.ConnectError("away", request=request)

    database = RestDatabase(settings, transport=httpx.MockTransport(away))
    watching = Watch(settings, database, identity_of(settings))
    asyncio.run(watching.run())
    assert asked == ["/rest/v1/rpc/etl_changes"] * 2


def test_a_disk_that_takes_nothing_ends_no_watch(tmp_path: Path) -> None:
    """What was published is noted for the next watch: the first note that the disk did not take ended this one."""
    (disk := tmp_path / "disk").touch()
    settings = Settings(
        _env_file=None, supabase_url="http://127.0.0.1:9", supabase_service_key="sb_secret_x", data_dir=disk
    ).model_copy(update={"watch_poll_seconds": 0.01})
    now, polls = "2026-01-31T03:00:00+00:00", []

    def counts(request: httpx.Request) -> httpx.Response:
        polls.append(request.url.path)
        if len(polls) == 2:
            watching.stop()
        counted = {"changes": 5, "marker": "", "counted": True}
        committed = {"as_of": now, "started_at": now}
        return httpx.Response(
            200, json={"clock": now, "epoch": "", "sources": {"users": counted}, "committed": committed}
        )

    watching = Watch(settings, RestDatabase(settings, transport=httpx.MockTransport(counts)), identity_of(settings))
    asyncio.run(watching.run())
    assert len(polls) == 2


def test_systemd_hears_that_the_watch_is_alive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind(str(tmp_path / "notify"))
        channel.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        notify_systemd("READY=1\nWATCHDOG=1")
        assert channel.recv(100) == b"READY=1\nWATCHDOG=1"
    notify_systemd("WATCHDOG=1")  # nobody has that socket any more: no reason for the watch to end
    monkeypatch.delenv("NOTIFY_SOCKET")
    notify_systemd("STOPPING=1")


def test_a_defect_ends_a_watch_in_a_sentence_without_a_value(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise KeyError("ana@example.com")

    monkeypatch.setattr("flows.watch.watch_changes", broken)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SUPABASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("SUPABASE_SERVICE_KEY", "sb_secret_hush")
    assert watch_command([]) == 1
    said = capsys.readouterr().err
    assert "✗ The watch: unexpected KeyError at test_unit.py" in said
    assert "ana@example.com" not in said
    assert (tmp_path / "data/local/errors/watch.txt").exists()


@pytest.mark.slow
@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGHUP, signal.SIGTERM])
def test_what_follows_the_first_signal_does_not_break_off_the_end_of_a_run(
    first: signal.Signals, tmp_path: Path
) -> None:
    """Ctrl-C, and a terminal that is closed, reach the run as well as the watch, which asks it to end then."""
    run = [sys.executable, "-c", ENDING, str(tmp_path / "given back")]
    with subprocess.Popen(run, cwd=ROOT, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout
        assert running.stdout.readline() == "started\n"
        for number in (first, signal.SIGTERM, signal.SIGTERM):
            running.send_signal(number)
            time.sleep(0.1)
        assert running.stdout.read() == "ended\n"
    assert (tmp_path / "given back").exists()


ENDING = """
import os, sys, time
from pathlib import Path
from flows.engine import child

def night():
    try:
        print("started", flush=True)
        time.sleep(60)
    finally:
        time.sleep(0.8)  # as long as a slow network takes to hear of it
        Path(sys.argv[1]).touch()

class Channel:
    def send(self, outcome): print(outcome.status, flush=True)
    def close(self): pass

child._nightly = night
child._main(Channel(), dict(os.environ), os.getcwd())
"""
