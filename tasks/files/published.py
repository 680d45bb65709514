"""Reads what was published, each file verified by its sha256: the one reader of manifests, files and the pointer."""

from __future__ import annotations

from pydantic import ValidationError

from tasks.files.layout import LATEST, manifest_path
from tasks.files.manifest import Manifest, ManifestRef, Pointer, sha256_of
from tasks.platform.bucket import Bucket

GONE = "is not in the bucket any more"
DAMAGED = "is damaged: its content is not what was published"
UNREADABLE = "cannot be read: it is not as this program writes it"


class NotAsPublished(Exception):
    """A file of a run is gone, damaged or unreadable; the caller says what that means for what it does.

    path: in the bucket. state: one of the words above. pruned: the manifest that stands there now, where retention
    removed files of the run since.
    """

    def __init__(self, path: str, state: str, *, pruned: Manifest | None = None) -> None:
        super().__init__(f"{path} {state}")
        self.path, self.state, self.pruned = path, state, pruned


def read_verified(bucket: Bucket, path: str, sha256: str) -> bytes:
    """The bytes of a file, past every cache; NotAsPublished when it is gone or another one."""
    body = bucket.find(path)
    if body is None:
        raise NotAsPublished(path, GONE)
    if sha256_of(body) != sha256:
        raise NotAsPublished(path, DAMAGED)
    return body


def read_manifest(bucket: Bucket, ref: ManifestRef) -> Manifest:
    """A run's manifest as it was published. NotAsPublished when it is gone, another one, or changed by retention."""
    body = bucket.find(ref.path)
    if body is None:
        raise NotAsPublished(ref.path, GONE)
    if sha256_of(body) == ref.sha256:
        return parse_manifest(ref.path, body)
    raise NotAsPublished(ref.path, DAMAGED, pruned=_pruned(ref.path, body))


def _pruned(path: str, body: bytes) -> Manifest | None:
    try:
        manifest = parse_manifest(path, body)
    except NotAsPublished:
        return None
    return manifest if manifest.removed else None


def find_manifest(bucket: Bucket, run: str) -> Manifest | None:
    """The manifest under a run's path as it is now, not verified: nothing states its sha256. None: there is none."""
    path = manifest_path(run)
    body = bucket.find(path)
    return parse_manifest(path, body) if body else None


def parse_manifest(path: str, body: bytes) -> Manifest:
    """The manifest in these bytes; NotAsPublished when they are none."""
    try:
        return Manifest.model_validate_json(body)
    except ValidationError:
        raise NotAsPublished(path, UNREADABLE) from None


def read_pointer(bucket: Bucket) -> Pointer | None:
    """What latest.json says; None when there is none. NotAsPublished when it is not ours."""
    body = bucket.find(LATEST)
    try:
        return Pointer.model_validate_json(body) if body else None
    except ValidationError:
        raise NotAsPublished(LATEST, UNREADABLE) from None
