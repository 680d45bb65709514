"""States of the platform through the doctor's command: each has its own remedy, and none is blamed on migrations."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from scripts import doctor as command

PAGE = b"<html><body>Something of a gateway</body></html>"


class Answers(BaseHTTPRequestHandler):
    """Answers every request with the status and type of the server."""

    status, kind, body = 200, "text/html", PAGE
    schemas: set[str | None]  # that REST was asked about

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("content-length") or 0))
        self.do_GET()

    def do_GET(self) -> None:
        if self.path.startswith("/rest/"):
            self.schemas.add(self.headers.get("content-profile" if self.command == "POST" else "accept-profile"))
        self.send_response(self.status)
        self.send_header("content-type", self.kind)
        self.send_header("content-length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> Iterator[type[Answers]]:
    """A server in the project's place; what it answers is set on the class that this gives."""
    handler = type("Handler", (Answers,), {"schemas": set()})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("SUPABASE_URL", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("SUPABASE_SERVICE_KEY", "sb_secret_x")
    monkeypatch.setenv("SUPABASE_DB_URL", "")
    monkeypatch.chdir(str(tmp_path))
    yield handler
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("status", "remedy"),
    [
        (540, "Restore the project"),
        (402, "Usage and Billing"),
        (404, "SUPABASE_URL"),
        (200, "SUPABASE_URL"),
        (502, "status.supabase.com"),
        (522, "status.supabase.com"),
    ],
)
def test_a_state_of_the_platform_has_a_remedy_of_its_own(
    answers: type[Answers], capsys: pytest.CaptureFixture[str], status: int, remedy: str
) -> None:
    answers.status = status
    assert command.main([]) == 1
    said = capsys.readouterr().out
    assert remedy in said.replace("\n", " ")
    assert "defect" not in said
    assert "make migrate" not in said
    assert answers.schemas == {"public"}, "whichever the project exposes first"
