"""Versions of the files' schemas: a reader of an old run's file learns from them that its columns were other ones.

`versions.json` records each version with the fingerprint of its columns. A declaration whose columns changed raises its
`version`; `make dictionary` records that, and says so where it was forgotten.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from tasks.contracts import REPORTS, TABLES, Report, Table

PATH = Path(__file__).with_name("versions.json")


def fingerprint(declared: Table | Report) -> str:
    """Of what a reader of the file relies on: names, types and nulls of its columns, and their order."""
    columns = declared.file_columns if isinstance(declared, Table) else declared.columns
    text = json.dumps([(c.name, c.kind, c.nullable) for c in columns])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def current() -> dict[str, dict[str, object]]:
    """Version and fingerprint of everything that is declared, as `versions.json` has them."""
    return {d.name: {"version": d.version, "fingerprint": fingerprint(d)} for d in _declared()}


def _declared() -> list[Table | Report]:
    return [*TABLES, *REPORTS]


def recorded() -> dict[str, dict[str, object]]:
    """What `versions.json` says."""
    return dict(json.loads(PATH.read_text(encoding="utf-8")))


def forgotten() -> list[str]:
    """The names whose columns changed while their version stayed."""
    before = recorded()
    return [name for name, now in current().items() if name in before and _differs(before[name], now)]


def _differs(before: dict[str, object], now: dict[str, object]) -> bool:
    return before["version"] == now["version"] and before["fingerprint"] != now["fingerprint"]


def write_record() -> None:
    """Record the versions. Raises ValueError that names the declarations whose version has to be raised first."""
    if names := forgotten():
        raise ValueError(f"The columns of {', '.join(names)} changed: raise `version` in the declaration first.")
    PATH.write_text(json.dumps(current(), indent=1) + "\n", encoding="utf-8")
