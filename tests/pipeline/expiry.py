"""A gate in front of a stack, on real sockets, that lets a token expire at the first request of a kind."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx

_HOP = frozenset({"transfer-encoding", "connection", "content-length", "content-encoding", "keep-alive"})
_REST = (401, {"code": "PGRST303", "message": "JWT expired"})
# As hosted Storage answers: a listing as of a token whose signing key was revoked, a file as if there were no bucket.
_STORAGE = {
    "GET /storage/v1/object/": ("404", "Bucket not found", "Bucket not found"),
    "POST /storage/v1/object/list/": ("403", "Unauthorized", "signature verification failed"),
    "": ("403", "Unauthorized", '"exp" claim timestamp check failed'),
}


class Gate:
    """expired: tokens that are good no longer. tokens: all that were sent, in order.

    kinds: the requests that make a token expire, the first of each.
    """

    def __init__(self, upstream: str, kinds: Sequence[str]) -> None:
        self.expired: set[str] = set()
        self.tokens: list[str] = []
        self.kinds = list(kinds)
        self.lock = threading.Lock()
        self.client = httpx.Client(base_url=upstream, timeout=30)
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def refuses(self, method: str, path: str, authorization: str) -> bool:
        """Whether this request's token has expired; the first of a kind lets its token expire."""
        token = authorization.removeprefix("Bearer ")
        if token.count(".") != 2 or path.startswith("/auth/"):
            return False
        with self.lock:
            if token not in self.tokens:
                self.tokens.append(token)
            kind = next((kind for kind in self.kinds if f"{method} {path}".startswith(kind)), None)
            if kind and token not in self.expired:
                self.kinds.remove(kind)
                self.expired.add(token)
            return token in self.expired


@contextmanager
def expiring(upstream: str, *kinds: str) -> Iterator[Gate]:
    """A running gate; nothing of it is left afterwards."""
    gate = Gate(upstream, kinds)
    gate.thread.start()
    try:
        yield gate
    finally:
        gate.server.shutdown()
        gate.server.server_close()
        gate.thread.join()
        gate.client.close()


def _answer_to(request: str) -> tuple[int, dict[str, str]]:
    if " /storage/" not in request:
        return _REST
    status, error, message = next(said for begins, said in _STORAGE.items() if request.startswith(begins))
    return 400, {"statusCode": status, "error": error, "message": message}


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
                status, said = _answer_to(f"{self.command} {self.path}")
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
