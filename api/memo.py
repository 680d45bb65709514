"""Answers remembered for seconds, made once also when many ask at the same time."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass
class _Slot(Generic[T]):
    lock: threading.Lock = field(default_factory=threading.Lock)
    made_at: float = float("-inf")
    values: tuple[T, ...] = ()  # one, once it was made


class Memo(Generic[T]):
    """A bounded memory by key. seconds: how long an answer counts. An error is not remembered."""

    def __init__(self, *, seconds: float, size: int) -> None:
        self._seconds, self._size = seconds, size
        self._slots: OrderedDict[object, _Slot[T]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: object, make: Callable[[], T]) -> T:
        """The remembered answer for the key, or a new one. Callers of one key wait for each other."""
        slot = self._slot(key)
        if time.monotonic() - slot.made_at < self._seconds:
            return slot.values[0]
        with slot.lock:
            if time.monotonic() - slot.made_at >= self._seconds:
                slot.values = (make(),)
                slot.made_at = time.monotonic()
            return slot.values[0]

    def forget(self, is_meant: Callable[[T], bool]) -> None:
        """Drop the answers that are meant: they count no longer."""
        with self._lock:
            for key in [key for key, slot in self._slots.items() if any(map(is_meant, slot.values))]:
                del self._slots[key]

    def _slot(self, key: object) -> _Slot[T]:
        with self._lock:
            slot = self._slots.setdefault(key, _Slot())
            self._slots.move_to_end(key)
            while len(self._slots) > self._size:
                self._slots.popitem(last=False)
            return slot


class Bodies:
    """Finished bodies by their ETag, the least recently used go first. limit: bytes of all of them."""

    def __init__(self, *, limit: int) -> None:
        self._limit, self._bytes = limit, 0
        self._bodies: OrderedDict[str, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, etag: str) -> bytes | None:
        with self._lock:
            body = self._bodies.get(etag)
            if body is not None:
                self._bodies.move_to_end(etag)
            return body

    def put(self, etag: str, body: bytes) -> None:
        with self._lock:
            self._bytes += len(body) - len(self._bodies.pop(etag, b""))
            self._bodies[etag] = body
            while self._bytes > self._limit:
                self._bytes -= len(self._bodies.popitem(last=False)[1])
