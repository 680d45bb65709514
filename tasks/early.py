"""What holds from a command's first moment, while its modules are imported: Ctrl-C is a sentence, no traceback.

And what runs on this machine is asked directly, whatever proxy the environment names.
"""

from __future__ import annotations

import os
import sys
from types import TracebackType


def _stopped(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.stderr.write("✗ Stopped by hand.\n")
    else:
        sys.__excepthook__(kind, error, trace)


if sys.argv[0] == "-m":  # what Python calls itself until it has found the module to run
    sys.excepthook = _stopped


def pass_proxies_by() -> None:
    """Add this machine to NO_PROXY where a proxy is set: no proxy reaches the local stack or Prefect's server here.

    Both spellings are set, as programs differ in which of them wins.
    """
    if any(name.lower() in ("http_proxy", "https_proxy", "all_proxy") and value for name, value in os.environ.items()):
        kept = os.environ.get("no_proxy", os.environ.get("NO_PROXY", ""))
        hosts = dict.fromkeys(filter(None, [*map(str.strip, kept.split(",")), "127.0.0.1", "localhost"]))
        os.environ.update(dict.fromkeys(("no_proxy", "NO_PROXY"), ",".join(hosts)))


pass_proxies_by()
