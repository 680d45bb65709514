"""Which code makes the rows and bytes of a run: workers must run the same, and what other code made is no base."""

from __future__ import annotations

import hashlib
from importlib.metadata import version
from pathlib import Path

from tasks.contracts import REPORTS, TABLES

# What shapes the bytes of a file.
LIBRARIES = ("pyarrow", "pandas", "numpy", "duckdb")
_ROOT = Path(__file__).resolve().parents[1]
# Packages whose code makes values or bytes. Charts are drawn each night, whatever the mode.
_SOURCES = ("arrow", "cleaning", "contracts", "files", "incremental", "reports")
_MODULES = ("source/convert.py", "source/binary.py", "source/select.py", "source/fingerprint.py")


def _fingerprint() -> str:
    digest = hashlib.sha256()
    for declaration in (*TABLES, *REPORTS):
        digest.update(repr(declaration).encode())
    files = [path for name in _SOURCES for path in sorted((_ROOT / name).rglob("*.py"))]
    for path in [*files, *(_ROOT / name for name in _MODULES)]:
        digest.update(path.relative_to(_ROOT).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    for library in LIBRARIES:
        digest.update(f"{library} {version(library)}\n".encode())
    return digest.hexdigest()


# Of declarations, modules and libraries, as this process has loaded them: a watch, a worker or a run that waits for
# another one goes on with its code when that on the disk is changed.
CODE = _fingerprint()
