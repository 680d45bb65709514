"""Checks of this side: settings, versions, disk."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import stat
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from urllib.parse import urlsplit

from tasks.doctor.findings import Finding, fail, ok, warn
from tasks.settings import Settings
from tasks.workspace import MINIMUM_FREE_BYTES

PINS = Path(__file__).parents[2] / "requirements-worker.txt"  # which the image has, too
# `make install` does nothing while the pins are as they were when it ran.
INSTALL = (
    f"Run `{shlex.quote(sys.executable)} -m pip install --no-deps --require-hashes -r {PINS.name}`; of an image make a "
    "new one."
)
PACKAGES = ("prefect", "supabase", "pandas", "pyarrow", "duckdb", "adbc-driver-postgresql")
COMFORTABLE_FREE_BYTES = 5 * 2**30
LOCAL_HOSTS = frozenset({"127.0.0.1", "localhost", "::1", "host.docker.internal"})


def settings_make_sense(settings: Settings) -> Iterator[Finding]:
    """Where the settings point, and what in them is likely to be a slip."""
    url = urlsplit(settings.supabase_url)
    yield ok("settings", f"Project {settings.project}, transport {settings.resolved_transport}.")
    if url.scheme != "https" and url.hostname not in LOCAL_HOSTS:
        yield fail("settings", "SUPABASE_URL is not https: the key travels in plain text.", "Write https://….")
    if url.path.strip("/"):
        yield warn("settings", "SUPABASE_URL has a path.", "Give the project's root, without /rest/v1.")
    yield from _env_file(Path(".env"))


def _env_file(path: Path) -> Iterator[Finding]:
    if path.exists() and path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH):
        yield warn("settings", "Other users of this machine can read .env, and it holds keys.", "Run `chmod 600 .env`.")


def versions_are_pinned(settings: Settings) -> Iterator[Finding]:
    """Installed packages against the pins."""
    pins = dict(re.findall(r"^([\w.-]+)==([\w.]+)", PINS.read_text(), re.MULTILINE)) if PINS.exists() else {}
    wrong = [f"{name} {_installed(name)} (pinned {pins[name]})" for name in PACKAGES if _differs(name, pins)]
    if wrong:
        yield warn("versions", f"Not as pinned: {', '.join(wrong)}.", INSTALL)
    else:
        shown = ", ".join(f"{name} {_installed(name)}" for name in PACKAGES[:4])
        yield ok("versions", f"Python {sys.version.split()[0]}, {shown}: as pinned.")


def _differs(name: str, pins: dict[str, str]) -> bool:
    return name in pins and _installed(name) != pins[name]


def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"


def disk_has_room(settings: Settings) -> Iterator[Finding]:
    """Free space and rights of the folder where a run keeps its batches, which hold personal data."""
    folder = settings.data_dir
    while not os.path.exists(folder):  # Path.exists raises where this user may not look
        folder = folder.parent
    if not (os.path.isdir(folder) and os.access(folder, os.W_OK | os.X_OK)):
        yield fail("disk", f"{folder} cannot be written to.", "Point ETL_DATA_DIR to a folder of this user.")
    free = shutil.disk_usage(folder).free
    free_text = f"{free / 2**30:,.1f} GiB free for the runs' folders."
    remedy = "Free some space, or point ETL_DATA_DIR elsewhere; a run needs about the size of the two tables."
    if free < MINIMUM_FREE_BYTES:
        yield fail("disk", free_text, remedy)
    else:
        yield warn("disk", free_text, remedy) if free < COMFORTABLE_FREE_BYTES else ok("disk", free_text)
