"""The pointer `latest.json`: a few hundred bytes, never cached, moved only after the ledger's commit.

A reader sees one complete run at any moment: the one it names.
"""

from __future__ import annotations

import logging

from tasks.errors import PublishError
from tasks.files.layout import LATEST
from tasks.files.manifest import Manifest, ManifestRef, Pointer
from tasks.files.published import DAMAGED, NotAsPublished, read_manifest, read_pointer
from tasks.ledger.ledger import Ledger
from tasks.ledger.row import LedgerRow
from tasks.platform.bucket import Bucket
from tasks.settings import Settings

logger = logging.getLogger(__name__)


def point_to_current(settings: Settings, ledger: Ledger) -> str | None:
    """Make latest.json name the run that is current, by the ledger; returns its manifest's path, None without one.

    The ledger is asked just before each change and once after it, so that of two runs that commit one after the other
    the later one is named, whoever of them comes here last.
    """
    named = _manifest_of(ledger.current())
    while repair_pointer(settings, named):
        named = _manifest_of(ledger.current())
    return named.path if named else None


def _manifest_of(run: LedgerRow | None) -> ManifestRef | None:
    return run.manifest if run else None


def repair_pointer(settings: Settings, ref: ManifestRef | None) -> bool:
    """Make latest.json name what the ledger committed last, whatever it names; True when it had to be changed.

    ref: the manifest of that run; None when nothing was ever committed. A manifest that is gone from the bucket is
    logged, and the pointer stays: a night must not fail for an emptied bucket.
    """
    if ref is None:
        return False
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
