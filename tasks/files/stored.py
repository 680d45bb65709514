"""Whether a run's files are in the bucket as its manifest says, without their being downloaded."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor

import httpx

from tasks.errors import RequestRefused
from tasks.files.manifest import FileEntry
from tasks.files.published import DAMAGED, GONE, NotAsPublished
from tasks.platform.bucket import Bucket
from tasks.platform.buckets import each
from tasks.platform.functions import open_database
from tasks.platform.http import make_http
from tasks.platform.stored import StoredInfo, is_missing, parse_info
from tasks.retry import Retry
from tasks.settings import Settings

_LINK_SECONDS = 600


def verify_stored(settings: Settings, run_path: str, entries: Collection[FileEntry]) -> None:
    """NotAsPublished for the first of these files that is not there with its size and checksum.

    The database is asked at once; what it does not see, or sees otherwise, Storage is asked, which has the last word.
    """
    known = stored_below(settings, run_path)
    if known is None or _problem(run_path, entries, known):
        problem = _problem(run_path, entries, _listed(settings, run_path, entries))
        if problem:
            raise problem


def stored_below(settings: Settings, folder: str) -> dict[str, StoredInfo] | None:
    """Size and checksum of all files below `folder`, by path, as Storage's table in the database has them.

    In one request, where Storage itself lists folder by folder.

    None where the database does not show that table: without Storage, or without the right to read it. A listing by
    Storage reads the same table: https://supabase.com/docs/guides/storage/schema/design
    """
    with open_database(settings) as database:
        found = database.call("etl_stored_files", p_bucket=settings.bucket, p_prefix=f"{folder}/")
    if found is None:
        return None
    return {path: parse_info({"size": size, "etag": etag}) for path, size, etag in found}


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


def verify_content(settings: Settings, run_path: str, entries: Collection[FileEntry]) -> None:
    """NotAsPublished for the first of these files that Storage lists and whose content it has lost.

    As after a restore of the database alone. A byte of each file is asked for, over a signed link.
    """
    paths = [f"{run_path}/{entry.path}" for entry in entries]
    with Bucket(settings) as bucket:
        links = bucket.sign(paths, _LINK_SECONDS)
    retry = Retry.of(settings)
    with make_http(settings) as http, ThreadPoolExecutor(settings.writers) as pool:

        def is_there(path: str) -> bool:
            try:
                retry.call(lambda: _ask_for_a_byte(http, links[path]), f"A byte of {path}")
            except RequestRefused as error:
                if not is_missing(error):
                    raise
                return False
            return True

        for path, there in zip(paths, pool.map(lambda p: p in links and is_there(p), paths), strict=True):
            if not there:
                raise NotAsPublished(path, GONE)


def _ask_for_a_byte(http: httpx.Client, link: str) -> None:
    with http.stream("GET", link, headers={"Range": "bytes=0-0"}):
        pass
