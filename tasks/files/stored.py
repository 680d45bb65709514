"""Whether a run's files are in the bucket as its manifest says, without a byte of them being downloaded."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from tasks.files.manifest import FileEntry
from tasks.files.published import DAMAGED, GONE, NotAsPublished
from tasks.platform.bucket import each
from tasks.platform.stored import StoredInfo
from tasks.platform.stored_files import stored_below
from tasks.settings import Settings


def verify_stored(settings: Settings, run_path: str, entries: Collection[FileEntry]) -> None:
    """NotAsPublished for the first of these files that is not there with its size and checksum.

    The database is asked at once; what it does not see, or sees otherwise, Storage is asked, which has the last word.
    """
    known = stored_below(settings, run_path)
    if known is None or _problem(run_path, entries, known):
        problem = _problem(run_path, entries, _listed(settings, run_path, entries))
        if problem:
            raise problem


def _listed(settings: Settings, run_path: str, entries: Collection[FileEntry]) -> dict[str, StoredInfo]:
    """A month has a folder of its own, and Storage lists folder by folder: several at once."""
    folders = sorted({entry.path.rpartition("/")[0] for entry in entries})
    listed = each(settings, lambda bucket, folder: list(bucket.walk(f"{run_path}/{folder}")), folders)
    return {file.path: file.info for files in listed for file in files}


def _problem(run_path: str, entries: Collection[FileEntry], there: Mapping[str, StoredInfo]) -> NotAsPublished | None:
    for entry in entries:
        path = f"{run_path}/{entry.path}"
        info = there.get(path)
        if info is None:
            return NotAsPublished(path, GONE)
        if not _is_same(info, entry):
            return NotAsPublished(path, DAMAGED)
    return None


def _is_same(info: StoredInfo, entry: FileEntry) -> bool:
    """Size and md5 as stated; where the eTag is no md5, or none was noted, the size alone."""
    return info.size in (None, entry.bytes) and (not entry.md5 or info.md5 in (None, entry.md5))
