"""A fingerprint of everything that shapes a run's rows and bytes, beside the rows of the source."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from importlib.metadata import version
from pathlib import Path

from tasks.contracts import REPORTS, TABLES
from tasks.settings import Settings

_ROOT = Path(__file__).resolve().parents[1]
# Packages whose code makes values or bytes. charts are drawn each night, whatever the mode.
_SOURCES = ("arrow", "cleaning", "contracts", "files", "incremental", "reports")
_MODULES = ("source/convert.py", "source/binary.py", "source/select.py", "source/fingerprint.py")
_LIBRARIES = ("pyarrow", "pandas", "numpy", "duckdb")


def output_fingerprint(settings: Settings) -> str:
    """Changes with contracts, rules, reports, partial tables, files, libraries, and the settings that shape files.

    Never the version of the code as git knows it, which can be unknown.
    """
    shape = {"part_rows": settings.part_rows, "row_group_rows": settings.row_group_rows, "code": _of_code()}
    return hashlib.sha256(json.dumps(shape, sort_keys=True).encode()).hexdigest()


@cache
def _of_code() -> str:
    digest = hashlib.sha256()
    for declaration in (*TABLES, *REPORTS):
        digest.update(repr(declaration).encode())
    files = [path for name in _SOURCES for path in sorted((_ROOT / name).rglob("*.py"))]
    for path in [*files, *(_ROOT / name for name in _MODULES)]:
        digest.update(path.relative_to(_ROOT).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    for library in _LIBRARIES:
        digest.update(f"{library} {version(library)}\n".encode())
    return digest.hexdigest()
