"""The last that a command writes to stdout: its result."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def last_output() -> Iterator[None]:
    """The block writes the last that stdout gets.

    Where nobody reads it any more, or its disk is full, stderr says so in a line: the run has ended, and its exit code
    stays.
    """
    if not sys.stdout:  # closed from the start
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - until the process ends
    try:
        yield
        sys.stdout.flush()
    except (OSError, SystemExit) as error:  # of a closed pipe rich makes a SystemExit
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "nobody reads it"
        with suppress(OSError):
            sys.stderr.write(
                f"! The result could not be written to stdout ({reason}); the exit code is that of the run.\n"
            )
        # Else Python tries again at its end, and ends with 120.
        with suppress(OSError, ValueError), open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
