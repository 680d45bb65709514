"""A command in a terminal of its own, of a given size, as a person sees it."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def in_terminal(command: Sequence[str], env: Mapping[str, str], *, columns: int, cwd: Path) -> tuple[int, str]:
    """Exit code, and everything that was written to the terminal, control sequences included."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 60, columns, 0, 0))
    full = {name: value for name, value in env.items() if name not in ("COLUMNS", "LINES", "NO_COLOR", "CI")}
    process = subprocess.Popen(
        command, cwd=cwd, env={**full, "TERM": "xterm-256color"}, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    written = bytearray()
    with suppress(OSError):  # the end of a terminal
        while block := os.read(ours, 65_536):
            written += block
    os.close(ours)
    return process.wait(), written.decode(errors="replace")


def lines(written: str) -> list[str]:
    """The lines without colours and control sequences; each state of a live line is one of its own."""
    return [line.rstrip() for line in re.split(r"[\r\n]+", _CONTROL.sub("", written)) if line.strip()]
