"""A proxy between a client and a real server, on real sockets, that spoils answers at a rate."""

from __future__ import annotations

import json
import random
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx

_HOP = frozenset(
    {"transfer-encoding", "connection", "content-length", "content-encoding", "keep-alive", "date", "server"}
)


class FaultProxy:
    """Passes requests on to `upstream`; a share `rate` of them is spoiled by one of `faults`, by a seeded chance.

    only: spoil no request but those with this in their path. counts: how many requests passed, and how many were
    spoiled by which fault.
    """

    def __init__(
        self,
        upstream: str,
        faults: Sequence[str],
        rate: float,
        *,
        seed: int = 1,
        stall: float = 1.0,
        only: str = "",
    ) -> None:
        self.faults, self.rate, self.stall = tuple(faults), rate, stall
        self.only = only
        self.counts: Counter[str] = Counter()
        self._random, self._lock = random.Random(seed), threading.Lock()
        self.client = httpx.Client(base_url=upstream, timeout=30)
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def choose(self, path: str) -> str:
        """The fault for a request, or `passed`. The preflight passes, so that what is read is what is tested."""
        with self._lock:
            wanted = self.only in path if self.only else "/rpc/" not in path or "/rpc/etl_rows" in path
            spoiled = self.faults and wanted and self._random.random() < self.rate
            fault = self._random.choice(self.faults) if spoiled else "passed"
            self.counts[fault] += 1
        return fault

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        self.client.close()


@contextmanager
def fault_proxy(
    upstream: str, faults: Sequence[str], rate: float, *, seed: int = 1, only: str = ""
) -> Iterator[FaultProxy]:
    """A running proxy; nothing of it is left afterwards."""
    proxy = FaultProxy(upstream, faults, rate, seed=seed, only=only)
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.stop()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Connections that clients gave up are expected here."""


def _handler(proxy: FaultProxy) -> type[BaseHTTPRequestHandler]:
    """Long, as http.server wants a class, and this one closes over its argument."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._forward()

        def do_POST(self) -> None:
            self._forward()

        do_PUT = do_DELETE = do_HEAD = do_POST  # noqa: N815 - http.server names them so

        def _forward(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            headers = {k: v for k, v in self.headers.items() if k.lower() not in {"host", "connection"}}
            fault = proxy.choose(self.path)
            if fault in ANSWERS or fault in FINAL:
                status, extra, answer = {**ANSWERS, **FINAL}[fault]
                self.send_whole(status, extra, json.dumps(answer).encode())
                return
            got = proxy.client.request(self.command, self.path, content=body, headers=headers)
            kept = {k: v for k, v in got.headers.items() if k.lower() not in _HOP}
            SPOILED.get(fault, _pass)(self, proxy, got.status_code, kept, got.content)

        def send_whole(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
            self.send_head(status, {**headers, "content-length": str(len(body))})
            self.wfile.write(body)

        def send_head(self, status: int, headers: Mapping[str, str]) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is inherited
            """Nothing."""

    return Handler


Answer = Callable[[Any, FaultProxy, int, Mapping[str, str], bytes], None]


def _pass(handler: Any, proxy: FaultProxy, status: int, headers: Mapping[str, str], body: bytes) -> None:
    handler.send_whole(status, headers, body)


def _reset(handler: Any, proxy: FaultProxy, status: int, headers: Mapping[str, str], body: bytes) -> None:
    """Half the body, then a TCP reset."""
    handler.send_head(status, {**headers, "content-length": str(len(body))})
    handler.wfile.write(body[: len(body) // 2])
    handler.wfile.flush()
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.close_connection = True
    handler.connection.close()


def _stall(handler: Any, proxy: FaultProxy, status: int, headers: Mapping[str, str], body: bytes) -> None:
    """Half the body, then nothing for longer than the client waits."""
    handler.send_head(status, {**headers, "content-length": str(len(body))})
    handler.wfile.write(body[: len(body) // 2])
    handler.wfile.flush()
    threading.Event().wait(proxy.stall)
    handler.close_connection = True


def _truncate(handler: Any, proxy: FaultProxy, status: int, headers: Mapping[str, str], body: bytes) -> None:
    """Half the body, ended as if that were all: no length was promised."""
    handler.send_head(status, {**headers, "connection": "close"})
    handler.wfile.write(body[: len(body) // 2])
    handler.close_connection = True


ANSWERS: dict[str, tuple[int, dict[str, str], dict[str, str]]] = {
    "429": (429, {"retry-after": "0"}, {"message": "too many requests"}),
    "57014": (500, {}, {"code": "57014", "message": "canceling statement due to statement timeout"}),
    "502": (502, {}, {"message": "bad gateway"}),
    "503": (503, {}, {"code": "PGRST000", "message": "no connection"}),
    "504": (504, {}, {"message": "gateway timeout"}),
}
SPOILED: dict[str, Answer] = {"reset": _reset, "stall": _stall, "truncated": _truncate}
FAULTS = (*ANSWERS, *SPOILED)
# No trying again helps against these.
FINAL = {"403": (403, dict[str, str](), {"statusCode": "403", "error": "Unauthorized", "message": "not allowed"})}
