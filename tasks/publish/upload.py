"""A run's files to Storage, its manifest after them, and the pointer last: a reader sees one whole run at any moment.

Every file goes under a path never used before and is verified there. The pointer `latest.json` is a few hundred bytes,
is never cached, and moves only after the ledger's commit.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from tasks.errors import PublishError
from tasks.files.manifest import (
    LATEST,
    MANIFEST,
    FileEntry,
    Manifest,
    RunFacts,
    instant,
    manifest_bytes,
    pointer_bytes,
    run_path,
    sha256_of,
)
from tasks.platform.bucket import Bucket, each
from tasks.settings import Settings
from tasks.workspace import Workspace

logger = logging.getLogger(__name__)
Progress = Callable[[int, int | None], None]


def _silent(done: int, total: int | None) -> None:
    """Say nothing."""


def publish(
    settings: Settings,
    workspace: Workspace,
    run: RunFacts,
    files: Sequence[FileEntry],
    counts: Mapping[str, Any],
    *,
    code_version: str = "",
    progress: Progress = _silent,
) -> Manifest:
    """Upload and verify every file of a run, then its manifest. No reader sees it yet.

    counts: JSON-able figures of the run. progress: bytes stored, and bytes in all. Called again for the same run, it
    finds what is there already. PublishError, or a transient error, names the file; the pointer is untouched.
    """
    as_of, began = _instants(workspace, run)
    path = run_path(run.run_id, as_of)
    body = manifest_bytes(
        run,
        files,
        counts,
        as_of=as_of,
        began=began,
        transport=settings.resolved_transport,
        code_version=code_version,
    )

    def store(bucket: Bucket, entry: FileEntry) -> int:
        bucket.store(f"{path}/{entry.path}", workspace.files / entry.path)
        return entry.bytes

    done, total = 0, sum(entry.bytes for entry in files)
    for stored in each(settings, store, sorted(files, key=lambda entry: -entry.bytes)):
        done += stored
        progress(done, total)
    with Bucket(settings) as bucket:
        bucket.store(f"{path}/{MANIFEST}", body)
    return Manifest(f"{path}/{MANIFEST}", sha256_of(body))


def _instants(workspace: Workspace, run: RunFacts) -> tuple[datetime, datetime]:
    """as_of and began of a run, from the ledger's knowledge or its folder's."""
    facts = workspace.facts()
    as_of, began = run.as_of or facts.get("as_of"), run.began or facts.get("began")
    if not isinstance(as_of, datetime | str) or not isinstance(began, datetime | str):
        raise PublishError("The run does not know its as_of or when its reading began, so no manifest can say it.")
    return instant(as_of), instant(began)


def move_pointer(settings: Settings, run_path: str, manifest_sha256: str) -> bool:
    """Make latest.json name a committed run; False when it names that one or a later one already.

    The manifest is read back first, so the pointer never names what is not there. Runs are ordered by as_of, then
    began; a historical run never becomes the latest.
    """
    with Bucket(settings) as bucket:
        manifest = _committed_manifest(bucket, f"{run_path}/{MANIFEST}", manifest_sha256)
        current = _pointer(bucket)
        if manifest["historical"] or (current is not None and _order(current) >= _order(manifest)):
            return False
        bucket.replace(LATEST, pointer_bytes(manifest, manifest_sha256))
        return True


def repair_pointer(settings: Settings, last_committed: Mapping[str, Any] | None) -> bool:
    """Make latest.json name what the ledger committed last, whatever it names; True when it had to be changed.

    last_committed: `manifest_path` and `manifest_sha256` of that run; None when nothing was ever committed. A manifest
    that is gone from the bucket is logged, and the pointer stays: a night must not fail for an emptied bucket.
    """
    if not last_committed or not last_committed.get("manifest_path"):
        return False
    path, sha256 = str(last_committed["manifest_path"]), str(last_committed["manifest_sha256"])
    with Bucket(settings) as bucket:
        current = _pointer(bucket)
        if current and (current["manifest"], current["manifest_sha256"]) == (path, sha256):
            return False
        try:
            manifest = _committed_manifest(bucket, path, sha256)
        except PublishError as error:
            logger.warning("latest.json is not repaired: %s", error.message)
            return False
        bucket.replace(LATEST, pointer_bytes(manifest, sha256))
        return True


def signed_links(settings: Settings, paths: Sequence[str]) -> dict[str, str]:
    """Links to files in the bucket, by path, that work for `signed_link_seconds` and need no key."""
    with Bucket(settings) as bucket:
        return bucket.sign(paths, settings.signed_link_seconds)


def _committed_manifest(bucket: Bucket, path: str, sha256: str) -> dict[str, Any]:
    body = bucket.find(path)
    if body is None or sha256_of(body) != sha256:
        state = "is not in the bucket" if body is None else "is not the one that the ledger committed"
        raise PublishError(
            f"{path} {state}; latest.json stays as it is.", remedy="Start a run: it publishes its own files."
        )
    return dict(json.loads(body))


def _pointer(bucket: Bucket) -> dict[str, Any] | None:
    body = bucket.find(LATEST)
    try:
        pointer = json.loads(body) if body else None
        return pointer if pointer and _order(pointer) and pointer["manifest_sha256"] else None
    except (ValueError, KeyError, TypeError):
        return None  # not of ours: the next run's takes its place


def _order(of: Mapping[str, Any]) -> tuple[datetime, datetime]:
    return instant(of["as_of"]), instant(of["began"])
