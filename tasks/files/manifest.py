"""What a published run says of itself: its path, its files with their checksums, and the pointer that names it.

Storage layout in the bucket (format 2). The day is the last one that the reports cover (that of as_of − 1 µs):

    runs/2026-01-31/<run id>/manifest.json
    runs/2026-01-31/<run id>/reports/<report>.parquet
    runs/2026-01-31/<run id>/charts/<chart>.png
    runs/2026-01-31/<run id>/clean/<table>/[month=2026-01/]part-000.parquet
    latest.json

No folder is named `key=value` where `key` is a column of a file below it: DuckDB, Polars and pyarrow parse such paths,
and would replace the column by the folder's value. Format 1 had `runs/date=2026-01-31/run=<run id>/…`; such runs stay
readable until retention removes them.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, Protocol

LATEST = "latest.json"
MANIFEST = "manifest.json"
RUNS = "runs"
FORMAT = 2
HISTORICAL_NOTE = (
    "For an earlier as_of, told from the rows as they were when the run began: what was changed or deleted in between "
    "cannot be told."
)
_RUN_PATH = re.compile(rf"{RUNS}/(date=)?(\d{{4}}-\d{{2}}-\d{{2}})/(?(1)run=)([^/=]+)")

FileKind = Literal["report", "chart", "clean"]


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file of a run. path: below the run's own path; rows: 0 for a chart; version: of the contract it follows."""

    path: str
    rows: int
    bytes: int
    sha256: str
    md5: str
    version: int
    kind: FileKind


@dataclass(frozen=True, slots=True)
class Manifest:
    """Where a published manifest is in the bucket, and the sha256 of its bytes."""

    path: str
    sha256: str

    @property
    def run_path(self) -> str:
        return self.path.removesuffix(f"/{MANIFEST}")


class RunFacts(Protocol):
    """What a manifest needs to know of the ledger's run."""

    @property
    def run_id(self) -> Any: ...
    @property
    def as_of(self) -> datetime | None: ...
    @property
    def as_of_mode(self) -> str: ...
    @property
    def began(self) -> datetime | None: ...
    @property
    def historical(self) -> bool: ...


def entry_of(file: Path, root: Path, *, rows: int, version: int, kind: FileKind) -> FileEntry:
    """The entry of a finished file; its bytes are read once for both checksums."""
    sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    with file.open("rb") as source:
        while block := source.read(2**20):
            sha256.update(block)
            md5.update(block)
    path = file.relative_to(root).as_posix()
    return FileEntry(path, rows, file.stat().st_size, sha256.hexdigest(), md5.hexdigest(), version, kind)


def sha256_of(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def instant(value: datetime | str) -> datetime:
    """An instant in UTC, from a datetime with a zone or its ISO text."""
    parsed = datetime.fromisoformat(value) if isinstance(value, str) else value
    return parsed.astimezone(UTC)


def day_of(as_of: datetime) -> str:
    """as_of's day: that of the last instant before it."""
    return (instant(as_of) - timedelta(microseconds=1)).date().isoformat()


def run_path(run_id: object, as_of: datetime) -> str:
    """Where a run's files live in the bucket."""
    return f"{RUNS}/{day_of(as_of)}/{run_id}"


def parse_run_path(path: str) -> tuple[str, str] | None:
    """Day and run id of a run's path, of either format; None for any other path."""
    found = _RUN_PATH.fullmatch(path)
    return (found[2], found[3]) if found else None


def day_of_folder(folder: str) -> str:
    """The day that a folder of runs or exports is named after: `2026-01-31`, or `date=2026-01-31` in format 1."""
    return folder.removeprefix("date=")


def day_folders(day: str) -> tuple[str, str]:
    """The folders that hold what belongs to a day: that of this format, and that of format 1."""
    return day, f"date={day}"


def manifest_bytes(
    run: RunFacts,
    files: Iterable[FileEntry],
    counts: Mapping[str, Any],
    *,
    as_of: datetime,
    began: datetime,
    transport: str,
    code_version: str,
) -> bytes:
    """The manifest of a run as JSON: the same run gives the same bytes."""
    manifest: dict[str, Any] = {
        "format": FORMAT,
        "run": run_path(run.run_id, as_of),
        "run_id": str(run.run_id),
        "as_of": instant(as_of).isoformat(),
        "as_of_mode": run.as_of_mode,
        "began": instant(began).isoformat(),
        "historical": run.historical,
        "transport": transport,
        "code_version": code_version,
        "counts": counts,
        "files": [_file(entry) for entry in sorted(files, key=lambda entry: entry.path)],
    }
    if run.historical:
        manifest["note"] = HISTORICAL_NOTE
    return to_json(manifest)


def _file(entry: FileEntry) -> dict[str, Any]:
    facts = asdict(entry)
    facts["schema_version"] = facts.pop("version")
    return facts


def pointer_bytes(manifest: Mapping[str, Any], sha256: str) -> bytes:
    """What latest.json says of a run: its path, its manifest and that one's sha256, as_of and began."""
    run = manifest["run"]
    return to_json(
        {
            "run": run,
            "manifest": f"{run}/{MANIFEST}",
            "manifest_sha256": sha256,
            "as_of": manifest["as_of"],
            "began": manifest["began"],
        }
    )


def thinned_bytes(manifest: Mapping[str, Any], removed: Collection[str], *, at: datetime) -> bytes:
    """The manifest of a run whose files that name user ids are gone: it says which they were and when."""
    before = manifest.get("removed", {}).get("files", [])
    left = [entry for entry in manifest["files"] if entry["path"] not in removed]
    gone = {"at": instant(at).isoformat(), "files": sorted({*before, *removed})}
    return to_json({**manifest, "files": left, "removed": gone})


def to_json(value: Mapping[str, Any]) -> bytes:
    """JSON for people and machines, keys sorted, so that equal content is equal bytes."""
    return (json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n").encode()
