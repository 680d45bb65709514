"""`python scripts/alone.py FILE COMMAND`: a shell's command, while no other one runs with this file; for the Makefile.

Nothing is installed yet where this runs. The lock is the shell's from then on, and ends with it and what it started.
"""

from __future__ import annotations

import fcntl
import os
import sys


def main(file: str, command: str) -> None:
    """Wait for the others, saying so, and become the shell."""
    lock = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print("Another make is installing here; waiting for it …", file=sys.stderr, flush=True)
        fcntl.flock(lock, fcntl.LOCK_EX)
    os.set_inheritable(lock, True)
    os.execvp("sh", ["sh", "-ec", command])  # noqa: S606 - the Makefile's own text, by the system's shell


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except KeyboardInterrupt:
        sys.exit(130)
