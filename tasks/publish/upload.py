"""A run's files to Storage, and its manifest after them: no reader sees them until the pointer moves.

Every file goes under a path never used before and is verified there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from tasks.errors import PublishError
from tasks.files.layout import instant
from tasks.files.manifest import FileEntry, ManifestRef, RunFacts, make_manifest, sha256_of
from tasks.platform.bucket import Bucket, each
from tasks.platform.progress import Progress, Running, no_progress
from tasks.settings import Settings
from tasks.workspace import Workspace


def publish(
    settings: Settings,
    workspace: Workspace,
    run: RunFacts,
    files: Sequence[FileEntry],
    counts: Mapping[str, Any],
    *,
    code_version: str = "",
    copied: Mapping[str, str] | None = None,
    progress: Progress = no_progress,
    **more: Any,
) -> ManifestRef:
    """Upload and verify every file of a run, then its manifest. No reader sees it yet.

    counts: JSON-able figures of the run. progress: bytes stored, and bytes in all. Called again for the same run, it
    finds what is there already. PublishError, or a transient error, names the file; the pointer is untouched.
    copied: where in the bucket a file is already, by its path: it is copied there. more: see `make_manifest`.
    PublishError also when the bucket is public: then nothing is uploaded.
    """
    as_of, started_at = _instants(workspace, run)
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
    with Bucket(settings) as bucket:
        bucket.require_private()

    def store(bucket: Bucket, entry: FileEntry) -> int:
        target, source = f"{manifest.run}/{entry.path}", (copied or {}).get(entry.path)
        if source:
            bucket.copy(source, target, size=entry.bytes, md5=entry.md5)
        else:
            bucket.store(target, workspace.files / entry.path)
        return entry.bytes

    uploaded = Running(progress, sum(entry.bytes for entry in files))
    for stored in each(settings, store, sorted(files, key=lambda entry: -entry.bytes)):
        uploaded.add(stored)
    body = manifest.to_json()
    with Bucket(settings) as bucket:
        bucket.store(manifest.path, body)
    return ManifestRef(path=manifest.path, sha256=sha256_of(body))


def _instants(workspace: Workspace, run: RunFacts) -> tuple[datetime, datetime]:
    """as_of of a run and when its reading started, from the ledger's knowledge or its folder's."""
    facts = workspace.facts()
    as_of, started_at = run.as_of or facts.get("as_of"), run.began or facts.get("began")
    if not isinstance(as_of, datetime | str) or not isinstance(started_at, datetime | str):
        raise PublishError("The run does not know its as_of or when its reading started, so no manifest can state it.")
    return instant(as_of), instant(started_at)


def signed_links(settings: Settings, paths: Sequence[str]) -> dict[str, str]:
    """Links to files in the bucket, by path, that work for `signed_link_seconds` and need no key."""
    with Bucket(settings) as bucket:
        return bucket.sign(paths, settings.signed_link_seconds)
