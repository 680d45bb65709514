"""Bytes that this process sends and receives: counted by the HTTP client and where the Postgres driver takes rows.

A hosted project's egress is metered. REST and Storage: bodies as they are on the wire, compressed or not. Postgres:
rows as Arrow holds them, and the arguments and answers of our functions as text; both are close to what is on the wire.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import httpx
import pyarrow as pa


@dataclass
class Traffic:
    """Bytes of bodies sent and received by this process, by all of its threads."""

    sent: int = 0
    received: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def totals(self) -> dict[str, int]:
        """Both, as `sent` and `received`."""
        with self._lock:
            return {"sent": self.sent, "received": self.received}

    def add(self, *, sent: int = 0, received: int = 0) -> None:
        with self._lock:
            self.sent += sent
            self.received += received


TRAFFIC = Traffic()


def count_request(request: httpx.Request) -> None:
    """A hook of httpx: the body that goes out."""
    length = request.headers.get("content-length", "")
    TRAFFIC.add(sent=int(length) if length.isdigit() else 0)


def count_response(response: httpx.Response) -> None:
    """A hook of httpx, before any that reads the body: what comes in is counted while it comes."""
    if isinstance(response.stream, httpx.SyncByteStream):
        response.stream = _Counted(response.stream)


class _Counted(httpx.SyncByteStream):
    def __init__(self, stream: httpx.SyncByteStream) -> None:
        self._stream = stream

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._stream:
            TRAFFIC.add(received=len(chunk))
            yield chunk

    def close(self) -> None:
        self._stream.close()


def count_received(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The batches as they come from the driver."""
    for batch in batches:
        TRAFFIC.add(received=batch.nbytes)
        yield batch


def count_sent(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The batches as the driver takes them."""
    for batch in batches:
        TRAFFIC.add(sent=batch.nbytes)
        yield batch
