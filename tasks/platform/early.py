"""What holds from a command's first moment, while its modules are imported: Ctrl-C is a sentence, no traceback.

What it prints arrives whatever the terminal's encoding is, and what runs on this machine is asked directly, whatever
proxy the environment names.
"""

from __future__ import annotations

import codecs
import io
import os
import sys
from types import TracebackType
from typing import Any


def _stopped(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.stderr.write("✗ Stopped by hand.\n")
    else:
        sys.__excepthook__(kind, error, trace)


_PLAIN = {"±": "+/-", "−": "-", "–": "-", "→": "->", "…": "...", "·": "*", "•": "*", "✓": "ok", "✗": "error:"}


def _in_plain_letters(error: UnicodeError) -> tuple[str, int]:
    """What stands for characters that the terminal's encoding lacks, as a minus does in Latin-1."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(_PLAIN.get(character, "?") for character in lacking), error.end


def print_anywhere() -> None:
    """No output ends in a traceback for a character that there is not; by default Python's does, after a whole run."""
    codecs.register_error("plain_letters", _in_plain_letters)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and "utf" not in stream.encoding.lower():
            stream.reconfigure(errors="plain_letters")


class _Unheard(io.RawIOBase):
    """A file of which it does not matter whether somebody reads it, or whether its disk is full."""

    def __init__(self, file: int) -> None:
        self._file = file

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._file

    def isatty(self) -> bool:
        return os.isatty(self._file)

    def write(self, data: Any) -> int:
        try:
            return os.write(self._file, data)
        except OSError:
            return len(data)


def keep_on_when_unheard() -> None:
    """What a command says on stderr ends no run: a disk of logs that is full, or a reader that went away, did."""
    if sys.stderr is None:  # closed from the start
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - until the process ends
    if isinstance(sys.stderr, io.TextIOWrapper):
        like, file = sys.stderr, io.BufferedWriter(_Unheard(sys.stderr.fileno()))
        sys.stderr = io.TextIOWrapper(file, like.encoding, like.errors, line_buffering=True)


if sys.argv[0] == "-m":  # what Python calls itself until it has found the module to run
    sys.excepthook = _stopped
    keep_on_when_unheard()
    print_anywhere()


def pass_proxies_by() -> None:
    """Add this machine to NO_PROXY where a proxy is set: no proxy reaches the local stack or Prefect's server here.

    Both spellings are set, as programs differ in which of them wins.
    """
    if any(name.lower() in ("http_proxy", "https_proxy", "all_proxy") and value for name, value in os.environ.items()):
        kept = os.environ.get("no_proxy", os.environ.get("NO_PROXY", ""))
        hosts = dict.fromkeys(filter(None, [*map(str.strip, kept.split(",")), "127.0.0.1", "localhost"]))
        os.environ.update(dict.fromkeys(("no_proxy", "NO_PROXY"), ",".join(hosts)))


pass_proxies_by()
