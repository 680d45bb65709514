"""What a published run says about itself: its manifest, and the pointer `latest.json` that names the current run.

Both are JSON that people read too; `tasks.files.layout` says where they are, `tasks.files.published` reads them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

from pydantic import AfterValidator, AliasChoices, BaseModel, ConfigDict, Field, PlainSerializer

from tasks.files.layout import FORMAT, day_of, instant, manifest_path, part_order, run_path
from tasks.reports.figures import RunCounts

HISTORICAL_NOTE = (
    "For an earlier as_of, computed from the rows as they were when the run started: what was changed or deleted in "
    "between is not known."
)

FileKind = Literal["report", "chart", "clean", "state"]
Instant = Annotated[datetime, AfterValidator(instant), PlainSerializer(lambda value: instant(value).isoformat())]
_STARTED_AT = AliasChoices("started_at", "began")  # format 1 had `began`


class Record(BaseModel):
    """Base of what is stored as JSON: frozen; fields of a later version are kept as they are."""

    model_config = ConfigDict(frozen=True, extra="allow", populate_by_name=True, serialize_by_alias=True)

    def to_json(self) -> bytes:
        """JSON with sorted keys, so that equal content is equal bytes; optional fields without a value are left out."""
        fields = self.model_dump(mode="json")
        optional = {name for name, field in type(self).model_fields.items() if not field.is_required()}
        return to_json({name: v for name, v in fields.items() if v is not None or name not in optional})


class FileEntry(Record):
    """One file of a run. path: below the run's own path; rows: 0 for a chart; version: of the contract it follows.

    md5: Storage's eTag of a file that was uploaded in one part; a copy inside Storage is verified by it.
    """

    path: str
    rows: int
    bytes: int
    sha256: str
    md5: str = ""
    version: int = Field(alias="schema_version")
    kind: FileKind


class Removed(Record):
    """What retention took of a run, and when: paths below the run's own path."""

    at: Instant
    files: tuple[str, ...]


class BaseFacts(Record):
    """What a run leaves for the next incremental night, which is full where one of them changed.

    output: a fingerprint of what shapes files (contracts, rules, libraries, settings). sources: types by column and
    table. seed: of the fingerprints. last_full: when the last full read started. row_bytes: of a row then, by table.
    """

    output: str
    sources: dict[str, dict[str, str]]
    seed: str
    last_full: Instant | None = None
    row_bytes: dict[str, float] = {}


def in_order(files: Iterable[FileEntry]) -> tuple[FileEntry, ...]:
    """The files by their paths, the parts of a folder in the order of their rows."""
    return tuple(sorted(files, key=lambda entry: part_order(entry.path)))


class Dated(Record):
    """By what readers choose a run. run: the run's path in the bucket; started_at: when reading started."""

    run: str
    run_id: str
    as_of: Instant
    started_at: Instant = Field(validation_alias=_STARTED_AT)
    historical: bool = False

    @property
    def day(self) -> str:
        """The last day that the reports cover, as `2026-01-31`."""
        return day_of(self.as_of)

    @property
    def order(self) -> tuple[datetime, datetime]:
        """By this runs follow one another: as_of, then when their reading started."""
        return self.as_of, self.started_at

    @property
    def rank(self) -> tuple[bool, datetime, datetime]:
        """The greatest of several runs is the one to read: a night that really ran, then the later one."""
        return not self.historical, self.as_of, self.started_at


class Manifest(Dated):
    """All that a run's manifest.json says.

    mode: whether all rows were read or those that changed since `base_run`; full_because: why not incremental.
    base: what the next incremental night compares itself with. files: as `in_order`, however they were written down.
    removed: set once retention pruned the run. counts: the run's figures, as the ledger keeps them.
    """

    format: int = FORMAT
    as_of_mode: str = ""
    transport: str = ""
    code_version: str = ""
    mode: Literal["full", "incremental"] = "full"
    base_run: str | None = None
    full_because: str | None = None
    base: BaseFacts | None = None
    counts: RunCounts = RunCounts()
    files: Annotated[tuple[FileEntry, ...], AfterValidator(in_order)]
    note: str | None = None
    removed: Removed | None = None

    @property
    def path(self) -> str:
        """Where the manifest is in the bucket."""
        return manifest_path(self.run)

    def file(self, path: str) -> FileEntry | None:
        """The entry of the file with that path below the run's own, or None."""
        return next((entry for entry in self.files if entry.path == path), None)

    def pointer(self, sha256: str) -> Pointer:
        """What latest.json says of this run; sha256: of the manifest's bytes as published."""
        return Pointer(
            run=self.run, manifest=self.path, manifest_sha256=sha256, as_of=self.as_of, started_at=self.started_at
        )

    def without(self, files: Collection[str], *, at: datetime) -> Manifest:
        """The manifest once retention removed `files` (paths below the run's own): it says which and when."""
        before = self.removed.files if self.removed else ()
        removed = Removed(at=at, files=tuple(sorted({*before, *files})))
        left = tuple(entry for entry in self.files if entry.path not in files)
        return self.model_copy(update={"files": left, "removed": removed})


class Pointer(Record):
    """What latest.json says: the current run's path, its manifest and that one's sha256."""

    run: str
    manifest: str
    manifest_sha256: str
    as_of: Instant
    started_at: Instant = Field(validation_alias=_STARTED_AT)


class ManifestRef(BaseModel):
    """Where a published manifest is in the bucket, and the sha256 of its bytes: what the ledger commits."""

    model_config = ConfigDict(frozen=True)

    path: str
    sha256: str

    @property
    def run_path(self) -> str:
        return self.path.rpartition("/")[0]


class RunFacts(Protocol):
    """What a manifest needs to know of the ledger's run."""

    @property
    def run_id(self) -> Any: ...
    @property
    def as_of(self) -> datetime | None: ...
    @property
    def as_of_mode(self) -> str: ...
    @property
    def snapshot_at(self) -> datetime | None: ...
    @property
    def historical(self) -> bool: ...


def make_manifest(
    run: RunFacts,
    files: Iterable[FileEntry],
    counts: RunCounts,
    *,
    as_of: datetime,
    started_at: datetime,
    transport: str,
    code_version: str,
    **more: Any,
) -> Manifest:
    """The manifest of a run: the same run gives the same bytes. more: mode, base_run, full_because, base."""
    return Manifest(
        run=run_path(run.run_id, as_of),
        run_id=str(run.run_id),
        as_of=as_of,
        as_of_mode=run.as_of_mode,
        started_at=started_at,
        historical=run.historical,
        transport=transport,
        code_version=code_version,
        counts=counts,
        files=tuple(files),
        note=HISTORICAL_NOTE if run.historical else None,
        **more,
    )


def entry_of(file: Path, root: Path, *, rows: int, version: int, kind: FileKind) -> FileEntry:
    """The entry of a finished file; its bytes are read once for both checksums."""
    sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    with file.open("rb") as source:
        while block := source.read(2**20):
            sha256.update(block)
            md5.update(block)
    return FileEntry(
        path=file.relative_to(root).as_posix(),
        rows=rows,
        bytes=file.stat().st_size,
        sha256=sha256.hexdigest(),
        md5=md5.hexdigest(),
        version=version,
        kind=kind,
    )


def sha256_of(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def to_json(value: Mapping[str, Any]) -> bytes:
    """JSON for people and machines, keys sorted, so that equal content is equal bytes."""
    return (json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n").encode()
