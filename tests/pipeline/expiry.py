"""A gate in front of a stack, on real sockets, that lets a token expire at the first request of a kind."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx

_HOP = frozenset({"transfer-encoding", "connection", "content-length", "content-encoding", "keep-alive"})
_ANSWERS: dict[str, tuple[int, dict[str, str]]] = {
    "rest": (401, {"code": "PGRST303", "message": "JWT expired"}),
    "storage": (400, {"statusCode": "403", "error": "Unauthorized", "message": '"exp" claim timestamp check failed'}),
}


class Gate:
    """expired: tokens that are good no longer. tokens: all that came, in order. method, path: what makes one expire."""

    def __init__(self, upstream: str, method: str, path: str) -> None:
        self.expired: set[str] = set()
        self.tokens: list[str] = []
        self.method, self.path = method, path
        self.lock = threading.Lock()
        self.client = httpx.Client(base_url=upstream, timeout=30)
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def refuses(self, method: str, path: str, authorization: str) -> bool:
        """Whether this request's token has expired; the first of the kind lets its token expire."""
        token = authorization.removeprefix("Bearer ")
        if token.count(".") != 2 or path.startswith("/auth/"):
            return False
        with self.lock:
            if token not in self.tokens:
                self.tokens.append(token)
            if not self.expired and method == self.method and path.startswith(self.path):
                self.expired.add(token)
            return token in self.expired


@contextmanager
def expiring(upstream: str, method: str, path: str) -> Iterator[Gate]:
    """A running gate; nothing of it is left afterwards."""
    gate = Gate(upstream, method, path)
    gate.thread.start()
    try:
        yield gate
    finally:
        gate.server.shutdown()
        gate.server.server_close()
        gate.thread.join()
        gate.client.close()


def _handler(gate: Gate) -> type[BaseHTTPRequestHandler]:
    """Long, as http.server wants a class, and this one closes over its argument."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer()

        do_POST = do_PUT = do_DELETE = do_HEAD = do_GET  # noqa: N815 - the names that http.server calls

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            headers = {k: v for k, v in self.headers.items() if k.lower() not in {"host", "connection"}}
            if gate.refuses(self.command, self.path, self.headers.get("authorization", "")):
                status, said = _ANSWERS["storage" if self.path.startswith("/storage/") else "rest"]
                self._send(status, {"content-type": "application/json"}, json.dumps(said).encode())
                return
            got = gate.client.request(self.command, self.path, content=body, headers=headers)
            kept = {k: v for k, v in got.headers.items() if k.lower() not in _HOP}
            self._send(got.status_code, kept, got.content)

        def _send(self, status: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response_only(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Tests are quiet."""

    return Handler
