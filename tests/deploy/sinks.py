"""Where alerts arrive in a test: a mail server and a webhook of this process, which keep what they are given."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

from local_stack.state import free_port


class _Mail(socketserver.StreamRequestHandler):
    """As much of SMTP as a client needs to hand over a mail."""

    def handle(self) -> None:
        self.wfile.write(b"220 sink\r\n")
        body: list[bytes] | None = None
        for line in self.rfile:
            if body is not None:
                if line != b".\r\n":
                    body.append(line)
                    continue
                self.server.received.append(b"".join(body).decode())  # type: ignore[attr-defined]
                body = None
            elif line.upper().startswith(b"DATA"):
                body = []
                self.wfile.write(b"354 go on\r\n")
                continue
            self.wfile.write(b"221 bye\r\n" if line.upper().startswith(b"QUIT") else b"250 ok\r\n")


class _Mails(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", port), _Mail)
        self.received: list[str] = []


@contextmanager
def mail_server() -> Iterator[tuple[int, list[str]]]:
    """Its port, and the mails that it was given."""
    port = free_port()
    with _Mails(port) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield port, server.received
        server.shutdown()


@contextmanager
def webhook() -> Iterator[tuple[str, list[str]]]:
    """Its address for Apprise, and what was posted to it."""
    received: list[str] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(self.rfile.read(int(self.headers["content-length"])).decode())
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", free_port()), Hook) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"json://127.0.0.1:{server.server_port}/hook", received
        server.shutdown()
