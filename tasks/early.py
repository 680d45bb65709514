"""What holds from a command's first moment, while its modules are imported: Ctrl-C is a sentence, no traceback."""

from __future__ import annotations

import sys
from types import TracebackType


def _stopped(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.stderr.write("✗ Stopped by hand.\n")
    else:
        sys.__excepthook__(kind, error, trace)


if sys.argv[0] == "-m":  # what Python calls itself until it has found the module to run
    sys.excepthook = _stopped
