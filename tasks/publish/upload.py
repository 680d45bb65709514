"""A run's files to Storage, and its manifest after them: no reader sees them until the pointer moves.

Every file goes under a path never used before and is verified there.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import wait
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

from tasks.arrow.ahead import beside
from tasks.errors import PipelineError, PublishError, report_of
from tasks.files.layout import instant, run_path
from tasks.files.manifest import FileEntry, ManifestRef, RunFacts, make_manifest, sha256_of
from tasks.files.stored import stored_below
from tasks.platform.bucket import Bucket
from tasks.platform.buckets import each
from tasks.platform.progress import Progress, Running, no_progress
from tasks.platform.stored import StoredInfo
from tasks.platform.workers import HERE, Tick, Workers, no_tick
from tasks.reports.figures import RunCounts
from tasks.settings import Settings, load_settings
from tasks.workspace import Workspace

logger = logging.getLogger(__name__)
# What a run has written that ends when files are stored, in words.
FILES_LEFT = "Some files under a path that nothing points to; retention removes them. No row changed."


def publish(
    settings: Settings,
    workspace: Workspace,
    run: RunFacts,
    files: Sequence[FileEntry],
    counts: RunCounts,
    *,
    code_version: str = "",
    copied: Mapping[str, str] | None = None,
    ahead: Collection[str] = (),
    progress: Progress = no_progress,
    workers: Workers = HERE,
    **more: Any,
) -> ManifestRef:
    """Upload and verify every file of a run, then its manifest. No reader sees it yet.

    counts: figures of the run. progress: bytes stored, and bytes in all. Called again for the same run, it
    finds what is there already. PublishError, or a transient error, names the file; the pointer is untouched.
    copied: where in the bucket a file is already, by its path: it is copied there. ahead: paths of those that `storing`
    has stored and verified. more: see `make_manifest`.
    PublishError also when the bucket is public: then nothing is uploaded.
    """
    as_of, started_at = _instants(workspace, run)
    with Bucket(settings) as bucket:
        bucket.require_private()
    path = run_path(run.run_id, as_of)
    units = _units(workspace, path, files, copied or {})
    done = Running(progress, sum(entry.bytes for entry in files))
    stored_before = frozenset(ahead)
    done.add(sum(unit.entry.bytes for unit in units if unit.entry.path in stored_before))
    to_store = [unit for unit in units if unit.entry.path not in stored_before]
    store = partial(_store_all, settings, path, to_store, workers, done.add)
    if workers.count:
        store()
    else:
        with beside(store) as stored:  # so that a signal need not wait for Storage
            stored.result()
    manifest = make_manifest(
        run,
        files,
        counts,
        as_of=as_of,
        started_at=started_at,
        transport=settings.resolved_transport,
        code_version=code_version,
        **more,
    )
    body = manifest.to_json()
    with Bucket(settings) as bucket:
        bucket.store(manifest.path, body)
    return ManifestRef(path=manifest.path, sha256=sha256_of(body))


@contextmanager
def storing(
    settings: Settings, workspace: Workspace, run_path: str, files: Sequence[FileEntry], copied: Mapping[str, str]
) -> Iterator[None]:
    """Store and verify files of a run while the block runs; its end waits for them.

    copied: as there. An error that ends the block removes the files again, or learns that they are left. Raises what
    `publish` raises of a file, and PublishError when the bucket is public: then nothing is stored.
    """
    units, stop = _units(workspace, run_path, files, copied), Event()
    with beside(partial(_store_in_private, settings, run_path, units), stop) as done:
        try:
            yield
            done.result()
        except BaseException as error:
            stop.set()
            wait([done])
            said = isinstance(error, PipelineError | KeyboardInterrupt)
            if not _removed(settings, [unit.target for unit in units]) and said:
                report_of(error).written = FILES_LEFT
            raise


def _store_in_private(settings: Settings, run_path: str, units: Sequence[UploadUnit]) -> None:
    with Bucket(settings) as bucket:
        bucket.require_private()
    _store_all(settings, run_path, units)


def _store_all(
    settings: Settings,
    run_path: str,
    units: Sequence[UploadUnit],
    workers: Workers = HERE,
    stored: Tick = no_tick,
) -> None:
    """On threads of this process, or on workers. stored: takes the bytes of each file."""
    for nbytes in workers.map(upload_unit, units) if workers.count else each(settings, _store, units):
        stored(nbytes)
    _verify_copies(settings, run_path, units)


def _removed(settings: Settings, paths: Sequence[str]) -> bool:
    """Whether the files are gone. Tried once: the end of a run waits for it, and retention removes what is left."""
    once = settings.model_copy(update={"retries": 0})
    try:
        with Bucket(once) as bucket:
            bucket.remove(paths)
    except PipelineError as error:
        logger.warning("Files that nothing points to stay in the bucket until retention: %s", error.message)
        return False
    return True


@dataclass(frozen=True, slots=True)
class UploadUnit:
    """A file of a run to be stored; source: where in the bucket it is already."""

    workspace: Workspace
    run_path: str
    entry: FileEntry
    source: str | None

    @property
    def target(self) -> str:
        return f"{self.run_path}/{self.entry.path}"

    @property
    def info(self) -> StoredInfo:
        """What Storage says of the file when all of it is there."""
        return StoredInfo(self.entry.bytes, self.entry.md5)

    def inputs(self) -> list[Path]:
        return [] if self.source else [self.workspace.files / self.entry.path]


def _units(
    workspace: Workspace, run_path: str, files: Sequence[FileEntry], copied: Mapping[str, str]
) -> list[UploadUnit]:
    """The files as units, large ones first."""
    by_size = sorted(files, key=lambda entry: -entry.bytes)
    return [UploadUnit(workspace, run_path, entry, copied.get(entry.path)) for entry in by_size]


def upload_unit(unit: UploadUnit, tick: Tick) -> int:
    """Store one file, on a worker; its settings are its own. Files go over HTTP, whatever the run's transport is."""
    with Bucket(load_settings(transport="rest")) as bucket:
        return _store(bucket, unit)


def _store(bucket: Bucket, unit: UploadUnit) -> int:
    """Upload and verify a file, or copy it; copies are verified together."""
    if unit.source:
        bucket.copy(unit.source, unit.target)
    else:
        bucket.store(unit.target, unit.workspace.files / unit.entry.path)
    return unit.entry.bytes


def _verify_copies(settings: Settings, run_path: str, units: Sequence[UploadUnit]) -> None:
    """All copies at once, by size and checksum; one that is not seen or not the same is looked at by itself."""
    copies = [unit for unit in units if unit.source]
    known = (stored_below(settings, run_path) if copies else None) or {}
    rest = [unit for unit in copies if known.get(unit.target) != unit.info]
    for _ in each(settings, _verify, rest):
        pass


def _verify(bucket: Bucket, unit: UploadUnit) -> None:
    bucket.verify_copy(str(unit.source), unit.target, size=unit.entry.bytes, md5=unit.entry.md5)


def _instants(workspace: Workspace, run: RunFacts) -> tuple[datetime, datetime]:
    """as_of of a run and when its reading started, from the ledger's knowledge or its folder's."""
    facts = workspace.facts()
    as_of, started_at = run.as_of or facts.get("as_of"), run.snapshot_at or facts.get("snapshot_at")
    if not isinstance(as_of, datetime | str) or not isinstance(started_at, datetime | str):
        raise PublishError("The run does not know its as_of or when its reading started, so no manifest can state it.")
    return instant(as_of), instant(started_at)


def signed_links(settings: Settings, paths: Sequence[str]) -> dict[str, str]:
    """Links to files in the bucket, by path, that work for `signed_link_seconds` and need no key."""
    with Bucket(settings) as bucket:
        return bucket.sign(paths, settings.signed_link_seconds)
