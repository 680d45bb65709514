"""The pointer `latest.json`: a few hundred bytes, never cached, moved only after the ledger's commit.

A reader sees one complete run at any moment: the one it names.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Protocol

from tasks.errors import PublishError
from tasks.files.layout import LATEST, manifest_path
from tasks.files.manifest import Manifest, ManifestRef, Pointer
from tasks.files.published import DAMAGED, NotAsPublished, read_manifest, read_pointer
from tasks.platform.bucket import Bucket
from tasks.settings import Settings

logger = logging.getLogger(__name__)


class CurrentRun(Protocol):
    """What the pointer needs of the ledger."""

    def current(self) -> dict[str, Any] | None: ...


def point_to_current(settings: Settings, ledger: CurrentRun) -> str | None:
    """Make latest.json name the run that is current, by the ledger; returns its manifest's path, None without one.

    The ledger is asked just before each change and once after it, so that of two runs that commit one after the other
    the later one is named, whoever of them comes here last.
    """
    current = ledger.current()
    while repair_pointer(settings, current):
        current = ledger.current()
    return current["manifest_path"] if current else None


def move_pointer(settings: Settings, run_path: str, manifest_sha256: str) -> bool:
    """Make latest.json name a committed run; False when it names that one or a later one already.

    The manifest is read back first, so the pointer never names what is not there. Runs are ordered by as_of, then by
    when their reading started; a historical run never becomes the latest. PublishError names what is missing.
    """
    with Bucket(settings) as bucket:
        manifest = _committed(bucket, ManifestRef(path=manifest_path(run_path), sha256=manifest_sha256))
        current = current_pointer(bucket)
        if manifest.historical or (current is not None and (current.as_of, current.started_at) >= manifest.order):
            return False
        bucket.replace(LATEST, manifest.pointer(manifest_sha256).to_json())
        return True


def repair_pointer(settings: Settings, last_committed: Mapping[str, Any] | None) -> bool:
    """Make latest.json name what the ledger committed last, whatever it names; True when it had to be changed.

    last_committed: `manifest_path` and `manifest_sha256` of that run; None when nothing was ever committed. A manifest
    that is gone from the bucket is logged, and the pointer stays: a night must not fail for an emptied bucket.
    """
    if not last_committed or not last_committed.get("manifest_path"):
        return False
    ref = ManifestRef(path=str(last_committed["manifest_path"]), sha256=str(last_committed["manifest_sha256"]))
    with Bucket(settings) as bucket:
        current = current_pointer(bucket)
        if current and (current.manifest, current.manifest_sha256) == (ref.path, ref.sha256):
            return False
        try:
            manifest = _committed(bucket, ref)
        except PublishError as error:
            logger.warning("latest.json is not repaired: %s", error.message)
            return False
        bucket.replace(LATEST, manifest.pointer(ref.sha256).to_json())
        return True


def current_pointer(bucket: Bucket) -> Pointer | None:
    """What latest.json says; None when there is none, or one that is not ours: the next run replaces it."""
    try:
        return read_pointer(bucket)
    except NotAsPublished:
        return None


def _committed(bucket: Bucket, ref: ManifestRef) -> Manifest:
    try:
        return read_manifest(bucket, ref)
    except NotAsPublished as problem:
        state = "is not the one that the ledger committed" if problem.state == DAMAGED else problem.state
        raise PublishError(
            f"{ref.path} {state}; latest.json stays as it is.", remedy="Start a run: it publishes its own files."
        ) from None
