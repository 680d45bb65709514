"""Which code ran: for the ledger and the manifest, never for a Parquet file."""

from __future__ import annotations

import os
import subprocess
from functools import cache
from pathlib import Path

CODE_VERSION = "ETL_CODE_VERSION"
_ROOT = Path(__file__).parents[2]


@cache
def code_version() -> str:
    """ETL_CODE_VERSION where the build sets it (an image has no git), else git's short hash, `+` when changed."""
    if given := os.environ.get(CODE_VERSION):
        return given
    command = ["git", "-C", str(_ROOT), "describe", "--always", "--dirty=+", "--exclude=*"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return answer.stdout.strip() or "unknown"
