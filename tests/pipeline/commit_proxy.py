"""Between the pipeline and Postgres: passes all on, but loses the answer to the run's commit, and is away after it."""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

_COMMIT, _RUN = b"COMMIT", b"etl_commit"
_ENCRYPTED = b"\x04\xd2"  # how the code of a request for encryption begins, which comes before the session's


class CommitProxy:
    """Listens on a port of its own. lost: how many answers to a commit were dropped; away: seconds that follow each.

    slow: makes the database slow to commit, so that nobody waits for its answer. words: what a pooler says while it is
    away; else it closes the connection.
    """

    def __init__(
        self, url: str, *, away: float, times: int = 1, slow: Callable[[], None] | None = None, words: str = ""
    ) -> None:
        parts = urlsplit(url)
        self._target, self._away, self._times = (parts.hostname or "127.0.0.1", parts.port or 5432), away, times
        self._slow, self._words = slow, words
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = url.replace(f":{parts.port}/", f":{self._listener.getsockname()[1]}/")
        self.lost = 0
        self._back_at = 0.0

    def serve(self) -> None:
        """Until the listener is closed."""
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                if time.monotonic() < self._back_at:
                    self._refuse(client)
                    continue
                threading.Thread(target=self._pass_on, args=(client,), daemon=True).start()

    def _refuse(self, client: socket.socket) -> None:
        with suppress(OSError), client:
            while self._words and client.recv(2**10)[4:6] == _ENCRYPTED:
                client.sendall(b"N")
            if self._words:
                fields = b"SFATAL\0CXX000\0M" + self._words.encode() + b"\0\0"
                client.sendall(b"E" + (4 + len(fields)).to_bytes(4) + fields)

    def _pass_on(self, client: socket.socket) -> None:
        seen = False
        with suppress(OSError), client, socket.create_connection(self._target) as server:
            while True:
                for source in select.select([client, server], [], [])[0]:
                    data = source.recv(2**16)
                    if not data:
                        return
                    seen = seen or (source is client and _RUN in data)
                    if source is client and seen and _COMMIT in data and self.lost < self._times:
                        self._lose(server, data)
                        return
                    (server if source is client else client).sendall(data)

    def _lose(self, server: socket.socket, data: bytes) -> None:
        if self._slow:
            self._slow()
        server.sendall(data)
        if not self._slow:
            server.recv(2**16)  # the database has committed; nobody hears of it
        self.lost += 1
        self._back_at = time.monotonic() + self._away

    def close(self) -> None:
        self._listener.close()


@contextmanager
def losing_the_commit(
    url: str, *, away: float, slow: Callable[[], None] | None = None, words: str = ""
) -> Iterator[CommitProxy]:
    proxy = CommitProxy(url, away=away, slow=slow, words=words)
    threading.Thread(target=proxy.serve, daemon=True).start()
    try:
        yield proxy
    finally:
        proxy.close()
