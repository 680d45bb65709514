"""Prefect's command line, for as long as the process that started it lives: `python -m deploy.tether server start`.

A parent that is killed cannot end its children, and a server that nobody knows of would go on for ever. The parent
holds the other end of our standard input, which closes with it, however it went.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading


def main() -> None:
    """Run the command of the arguments; ask it to end when standard input does."""
    threading.Thread(target=_follow, name="tether", daemon=True).start()
    sys.argv[0] = "prefect"
    runpy.run_module("prefect", run_name="__main__", alter_sys=True)


def _follow() -> None:
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
