"""Prefect's server as a child: on a port of its own, behind its password, in folders of this user."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx
import psutil
import pytest
from sqlalchemy import create_engine, make_url

from deploy import prefect_services
from deploy.prefect_services import Prefect, ServiceError, answers, api, listens, own_temporary_folder, server
from local_stack.state import free_port
from scripts import ui

ROOT = Path(__file__).parents[2]


class _Healthy(BaseHTTPRequestHandler):
    """Answers as a Prefect server does."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"true")

    def log_message(self, *_: object) -> None: ...


@contextmanager
def other_server() -> Iterator[int]:
    """Something on a port that looks like Prefect."""
    port = free_port()
    other = HTTPServer(("127.0.0.1", port), _Healthy)
    thread = threading.Thread(target=other.serve_forever, daemon=True)
    thread.start()
    try:
        yield port
    finally:
        other.shutdown()
        other.server_close()


@pytest.mark.slow
@pytest.mark.parametrize("proxy", [{}, {"HTTP_PROXY": "http://127.0.0.1:9", "no_proxy": "example.org"}])
def test_the_port_of_another_server_is_refused_before_anything_is_started(
    proxy: dict[str, str], tmp_path: Path
) -> None:
    """It is asked directly, whatever proxy the environment names for the world outside."""
    with other_server() as port:
        assert answers(f"http://127.0.0.1:{port}")
        command = [sys.executable, "-m", "scripts.ui", "--home", str(tmp_path / "prefect"), "--port", str(port)]
        env = {**os.environ, "SUPABASE_URL": "http://127.0.0.1:9", **proxy}
        done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert f"Another Prefect server uses port {port}" in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "prefect" / "server.log").exists()


@pytest.mark.slow
def test_a_server_that_answers_but_is_not_our_child_does_not_count(tmp_path: Path) -> None:
    with other_server() as port, subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert not listens(child.pid, port)
        assert listens(os.getpid(), port)
        child.kill()
    prefect = Prefect.at(tmp_path, port=free_port())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prefect_services, "answers", lambda url: True)
        patch.setattr(prefect_services, "START_SECONDS", 2.0)
        with pytest.raises(ServiceError, match="did not start"), server(prefect):
            pytest.fail("a foreign answer was taken for the server's")


def test_a_note_of_a_dead_process_names_no_server(tmp_path: Path) -> None:
    with other_server() as port:
        note = {"url": f"http://127.0.0.1:{port}", "pid": os.getpid()}
        (tmp_path / "ui.json").write_text(json.dumps(note))
        assert ui.running(tmp_path) is None


def test_a_server_is_found_whatever_the_clock_does(tmp_path: Path) -> None:
    """When its process started moves with the system's clock: once that was set there was no server."""
    command = [sys.executable, "-c", "input(' ')", "-m", "scripts.ui"]
    with (
        other_server() as port,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process,
    ):
        assert process.stdout
        process.stdout.read(1)  # until it has begun the system may name no command of it
        url = f"http://127.0.0.1:{port}"
        note = {"url": url, "pid": process.pid, "started_at": psutil.Process(process.pid).create_time() + 1}
        (tmp_path / "ui.json").write_text(json.dumps(note))
        assert ui.running(tmp_path) == url
        process.kill()
        process.wait()
        assert ui.running(tmp_path) is None


@pytest.mark.slow
def test_the_server_asks_for_its_password(tmp_path: Path) -> None:
    prefect = Prefect.at(tmp_path, port=free_port())
    with server(prefect):
        assert httpx.post(f"{prefect.url}/api/deployments/filter", json={}).status_code == 401
        assert api(prefect, "/deployments/filter", {}) == []
    assert (tmp_path / "auth").stat().st_mode & 0o077 == 0
    assert Prefect.at(tmp_path).password == prefect.password, "it is kept"


def test_an_empty_password_is_none(tmp_path: Path) -> None:
    """A disk that was full left it, and the next server asked for no password."""
    (tmp_path / "auth").write_text("")
    password = Prefect.at(tmp_path).password
    assert len(password.removeprefix("admin:")) > 12
    assert (tmp_path / "auth").read_text() == Prefect.at(tmp_path).password == password
    assert (tmp_path / "auth").stat().st_mode & 0o077 == 0


@pytest.mark.slow
def test_its_pages_are_its_own_whatever_the_environment_says_of_another_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They sent whoever opened them, with this server's password, to the API of the other one, whose gateway's
    `Authorization` stood in place of that password."""
    monkeypatch.setenv("PREFECT_CLIENT_CUSTOM_HEADERS", '{"Authorization": "Basic b3RoZXI6c2VydmVy"}')
    for name in ("PREFECT_UI_URL", "PREFECT_SERVER_UI_API_URL", "PREFECT_UI_API_URL"):
        monkeypatch.setenv(name, "https://prefect.example.org/api")
    for name in ("PREFECT_SERVER_UI_SERVE_BASE", "PREFECT_UI_SERVE_BASE"):
        monkeypatch.setenv(name, "/below")
    prefect = Prefect.at(tmp_path / "prefect", port=free_port())
    settings = "from prefect.settings import get_current_settings as now; s = now()"
    show = f"{settings}; print(s.ui_url, s.server.ui.api_url, s.server.ui.serve_base, s.client.custom_headers)"
    done = subprocess.run([sys.executable, "-c", show], env=prefect.env, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [prefect.url, f"{prefect.url}/api", "/", "{}"]


def test_its_database_lies_in_its_folder_whatever_that_is_called(tmp_path: Path) -> None:
    """Of a clone in `a ?b` it was the file `a ` beside it, for everybody to read."""
    home = tmp_path / "a ?#%41b"
    url = make_url(Prefect.at(home).env["PREFECT_SERVER_DATABASE_CONNECTION_URL"])
    create_engine(url.set(drivername="sqlite")).connect().close()
    assert list(tmp_path.iterdir()) == [home]
    assert (home / "prefect.db").exists()


def test_temporary_files_lie_in_a_folder_of_this_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    folder = own_temporary_folder(tmp_path)
    assert folder.parent == tmp_path
    folder.chmod(0o777)  # somebody else's, or open to them
    assert own_temporary_folder(tmp_path) == tmp_path / "tmp"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_is_not_ours_is_a_sentence(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(ServiceError, match="cannot be made or written"):
        Prefect.at(tmp_path / "prefect")


def test_a_home_that_is_a_file_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "prefect").write_text("")
    with pytest.raises(ServiceError, match="cannot be made or written"):
        Prefect.at(tmp_path / "prefect")
