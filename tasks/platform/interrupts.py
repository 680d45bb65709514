"""Ctrl-C and SIGTERM end a command at once, also while it waits for a statement of the database.

The driver catches SIGINT itself while a statement of the main thread runs: it cancels the statement and forgets the
signal, so that the failure looks like a timeout and the command goes on (adbc-driver-manager 1.13). Here Python keeps
its handlers, and a thread learns of a signal while the main thread waits: the statement is cancelled, and the handler
runs as soon as it has returned.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

from adbc_driver_manager import dbapi

_ALMOST_OVER = (
    0.05  # seconds: a statement that ends by itself by then is not cancelled, nor the one that cleans up after it
)
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# In so many seconds another signal says the same and does not break off what the first one ends: a terminal that is
# closed sends SIGHUP twice, as its shell does. Later somebody insists.
_THE_SAME = 2.0


class _Wish:
    """Whether a signal asks for something that those before it did not ask for."""

    def __init__(self) -> None:
        self._heard = float("-inf")

    def is_new(self) -> bool:
        """Asked when one has arrived."""
        before, now = self._heard, time.monotonic()
        if is_new := now - before >= _THE_SAME:
            self._heard = now
        return is_new


class _Statement:
    """What cancels the statement that the main thread waits for; None while it waits for none."""

    cancel: Callable[[], None] | None = None
    held = 0  # blocks that no signal may end


_RUNNING = _Statement()


@contextmanager
def interruptible() -> Iterator[list[int]]:
    """In the block SIGINT, SIGTERM and SIGHUP raise KeyboardInterrupt in the main thread. Gives those that arrived.

    A signal that was ignored before (a shell's background job, nohup) stays ignored. Does nothing on another thread.
    """
    arrived, wish = list[int](), _Wish()

    def end(number: int, frame: FrameType | None) -> None:
        arrived.append(number)
        if not _RUNNING.held and wish.is_new():
            raise KeyboardInterrupt

    before = {}
    if threading.current_thread() is threading.main_thread():
        wanted = [number for number in ENDING if signal.getsignal(number) is not signal.SIG_IGN]
        before = {number: signal.signal(number, end) for number in wanted}
    try:
        with signals_end_statements():
            yield arrived
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def signals_end_statements() -> Iterator[None]:
    """In the block a statement that the main thread waits for is cancelled when a signal arrives that asks to end.

    What the signal does then is its handler's matter: ours, or Prefect's in a flow. Does nothing on another thread.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    blocking: Any = vars(dbapi)["_blocking_call"]
    setattr(dbapi, "_blocking_call", _call)  # noqa: B010 - the driver has no other door
    try:
        with _woken():
            yield
    finally:
        setattr(dbapi, "_blocking_call", blocking)  # noqa: B010


@contextmanager
def uninterrupted() -> Iterator[None]:
    """A short block at the end of a run that no signal may break off, where the command is `interruptible`."""
    _RUNNING.held += 1
    try:
        yield
    finally:
        _RUNNING.held -= 1


def _call(
    function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], cancel: Callable[[], None]
) -> Any:
    """In the place of the driver's own: it runs the function, and a signal may cancel it."""
    if threading.current_thread() is not threading.main_thread():
        return function(*args, **kwargs)
    _RUNNING.cancel = cancel
    try:
        return function(*args, **kwargs)
    finally:
        _RUNNING.cancel = None


@contextmanager
def _woken() -> Iterator[None]:
    """A thread that cancels the running statement when a signal arrives: Python's own handlers wait for its end."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    thread = threading.Thread(target=_cancel_at_signals, args=(reading,), daemon=True, name="signals")
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(writing)  # ends the thread
        thread.join()
        os.close(reading)


def _cancel_at_signals(reading: int) -> None:
    wish = _Wish()
    while arrived := os.read(reading, 64):
        running = _RUNNING.cancel
        ends = bool(set(arrived) & set(ENDING)) and wish.is_new()
        time.sleep(_ALMOST_OVER)
        if running and running is _RUNNING.cancel and not _RUNNING.held and ends:
            with suppress(Exception):  # it has just ended
                running()
