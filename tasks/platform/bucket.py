"""The bucket as the pipeline uses it: retried, verified, on hosted Storage and the embedded one alike.

Hosted Storage answers many errors with HTTP 400, the real status in the body: `tasks.platform.http` makes ours of them.
"""

from __future__ import annotations

import hashlib
import io
import uuid
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Self, TypeVar

import httpx
from storage3.types import CreateSignedUploadUrlOptions

from tasks.errors import AccessError, FileLost, PublishError, RequestRefused
from tasks.platform.http import make_client
from tasks.platform.identity import identity_of
from tasks.platform.remedies import no_bucket
from tasks.platform.stored import REFRESH, StoredFile, StoredInfo, damaged, is_missing, no_bucket_seen, parse_info
from tasks.retry import Retry
from tasks.settings import Settings

CONTENT_TYPES = {
    ".parquet": "application/vnd.apache.parquet",
    ".png": "image/png",
    ".json": "application/json",
    ".csv": "text/csv; charset=utf-8",
}
PAGE = 1_000  # entries asked for in one listing
AT_ONCE = 1_000  # paths in one request: hosted Storage takes no more (src/storage/limits.ts of supabase/storage)
NEVER_CACHED = "0"
CACHED = "3600"

T = TypeVar("T")


class Bucket:
    """One bucket through one client; each thread needs its own (`tasks.platform.buckets` sees to it)."""

    def __init__(
        self,
        settings: Settings,
        *,
        key: str | None = None,
        access_token: str | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.name = settings.bucket
        self._storage = make_client(settings, key=key, access_token=access_token, transport=transport).storage
        self._files = self._storage.from_(settings.bucket)
        self._retry = Retry.of(settings)
        self._as_etl = not key and not access_token and identity_of(settings).kind != "service key"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._storage.session.close()

    def require_private(self) -> int | None:
        """The bytes that a file may have, where the bucket says; PublishError when it is public or is not there."""
        try:
            bucket = self._retry.call(lambda: self._storage.get_bucket(self.name), f"Bucket {self.name}")
        except AccessError:
            raise
        except RequestRefused as error:
            raise PublishError(
                f"The bucket {self.name} cannot be used: {error.message}. Nothing was uploaded.",
                remedy=no_bucket(self.name, as_etl=self._as_etl) if is_missing(error) else error.remedy,
            ) from None
        if bucket.public:
            raise PublishError(
                f"The bucket {self.name} is public: anyone could read the cleaned tables. Nothing was uploaded.",
                remedy="Make it private in the dashboard under Storage, then start again.",
            )
        return bucket.file_size_limit

    def require_writable(self, path: str) -> None:
        """AccessError when this identity may not store a file there or replace it. Nothing is written: before Storage
        signs a link for an upload it tries both, and takes them back."""
        options = CreateSignedUploadUrlOptions(upsert="true")
        try:
            self._retry.call(lambda: self._files.create_signed_upload_url(path, options), f"Writing to {self.name}")
        except AccessError:
            raise
        except RequestRefused:  # a server that knows no such question, or nothing of `upsert`: the upload decides
            return

    def store(self, path: str, source: Path | bytes) -> None:
        """Store a file under a path that is new, and verify by Storage's checksum that all of it arrived.

        A file that is there already, from a try whose answer was lost, counts when its content is the same.
        PublishError names the file; what arrived damaged is sent once more.
        """
        for _ in range(2):
            self._upload(path, source, replace=False)
            if self._holds(path, source):
                return
            self.remove([path])
        raise PublishError(
            f"{path} did not arrive as it was sent, twice.",
            remedy="Nothing points to this run; start the run again; if it stays, ask who operates Storage.",
        )

    def copy(self, source: str, target: str) -> None:
        """Copy a file inside Storage to a path that is new: no byte of it is downloaded. To be verified after it.

        A copy that is there already, from a try whose answer was lost, is no error. FileLost: the source is gone.
        """
        try:
            self._retry.call(lambda: self._files.copy(source, target), f"Copy of {source} to {target}")
        except AccessError:
            raise
        except RequestRefused as error:
            if error.status == 409:
                return
            if is_missing(error):
                gone = f"{source} is not in the bucket any more"
                raise FileLost(
                    f"{gone}, so {target} could not be copied from it.", remedy=REFRESH, problem=gone
                ) from None
            raise PublishError(error.message, remedy=f"No reader sees this run. {error.remedy}") from None

    def verify_copy(self, source: str, target: str, *, size: int, md5: str) -> None:
        """Verify a copy by its size (bytes) and checksum, as Storage states them.

        Where the copy's eTag is not the content's md5, the file is downloaded, verified and uploaded. FileLost when the
        source is not what `size` and `md5` say, or gone; then there is no copy.
        """
        if self.info(target) == StoredInfo(size, md5):
            return
        self.remove([target])
        body = self.download_published(source)
        if (len(body), _md5(body)) != (size, md5):
            raise damaged(source, left=target)
        self.store(target, body)

    def replace(self, path: str, body: bytes) -> None:
        """Store a small file in place of another, never cached: readers see the old or the new one, not a mixture."""
        self._upload(path, body, replace=True, cache=NEVER_CACHED)

    def _upload(self, path: str, source: Path | bytes, *, replace: bool, cache: str = CACHED) -> None:
        options: Any = {"content-type": CONTENT_TYPES[Path(path).suffix], "cache-control": cache}
        options["upsert"] = "true" if replace else "false"
        try:
            self._retry.call(lambda: self._files.upload(path, source, options), f"Upload of {path}")
        except AccessError:
            raise
        except RequestRefused as error:
            if error.status != 409 or replace:
                raise self._refused(path, source, error) from None

    def _refused(self, path: str, source: Path | bytes, error: RequestRefused) -> PublishError:
        if error.status != 413 and error.code != "EntityTooLarge":
            return PublishError(error.message, remedy=f"No reader sees this run. {error.remedy}")
        size = len(source) if isinstance(source, bytes) else source.stat().st_size
        return PublishError(
            f"{path} has {size / 2**20:,.1f} MiB, more than {self._limit()} allows; no reader sees it.",
            remedy="Raise the limit in the project's Storage settings, or lower ETL_PART_ROWS for smaller parts "
            "of a run; of an export choose fewer columns or days, or Parquet.",
        )

    def _limit(self) -> str:
        bucket = self._retry.call(lambda: self._storage.get_bucket(self.name), f"Bucket {self.name}")
        if bucket.file_size_limit:
            return f"the limit of {bucket.file_size_limit / 2**20:,.1f} MiB a file of the bucket {self.name}"
        return "the project's limit for a file (50 MB on the free plan)"

    def _holds(self, path: str, source: Path | bytes) -> bool:
        """Whether the bucket has just these bytes: by the md5 etag, or by reading back where the etag is none."""
        if (md5 := self.info(path).md5) is not None:
            return md5 == _md5(source)
        return self.download(path) == (source if isinstance(source, bytes) else source.read_bytes())

    def info(self, path: str) -> StoredInfo:
        """Size and checksum of a file, as Storage itself states them. RequestRefused when it is not there."""
        return parse_info(self._about_a_file(lambda: self._files.info(path), f"Checksum of {path}"))

    def download(self, path: str, *, fresh: bool = False) -> bytes:
        """A file's bytes; `fresh` asks past every cache."""
        query = {"fresh": uuid.uuid4().hex} if fresh else None
        return self._about_a_file(lambda: self._files.download(path, query_params=query), f"Download of {path}")

    def _about_a_file(self, request: Callable[[], T], what: str) -> T:
        """The answer; AccessError where Storage says that there is no bucket, as its token is none (any more).

        A listing is refused to such a token, or brings the next one, with which the file is asked for again.
        """
        try:
            return self._retry.call(request, what)
        except RequestRefused as error:
            if not no_bucket_seen(error):
                raise
        self._page("", 0)
        return self._retry.call(request, what)

    def download_published(self, path: str) -> bytes:
        """A file's bytes, of an earlier run. FileLost when they are not there any more."""
        try:
            return self.download(path)
        except RequestRefused as error:
            if is_missing(error):
                raise FileLost(f"{path} is not in the bucket any more.", remedy=REFRESH) from None
            raise

    def find(self, path: str) -> bytes | None:
        """A small file's bytes, past every cache; None when there is none."""
        try:
            return self.download(path, fresh=True)
        except RequestRefused as error:
            if is_missing(error):
                return None
            raise

    def folders(self, prefix: str) -> list[str]:
        """Names of the folders directly below `prefix`."""
        found = set()
        for full, entry in self._entries(prefix):
            name, slash, _ = full.removeprefix(f"{prefix}/").partition("/")
            if slash or entry.get("id") is None:
                found.add(name)
        return sorted(found)

    def walk(self, prefix: str) -> Iterator[StoredFile]:
        """All files below `prefix`, by their full paths."""
        for full, entry in list(self._entries(prefix)):
            if entry.get("id") is None:
                yield from self.walk(full)
            else:
                yield StoredFile(full, entry.get("created_at"), parse_info(entry))

    def _entries(self, prefix: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Full path and entry of what is below `prefix`.

        Hosted Storage lists names relative to the folder, folders among them without an id; the embedded one, as it
        comes, full keys of everything below.
        """
        offset = 0
        while page := self._page(prefix, offset):
            for entry in page:
                name = entry["name"]
                yield (name if name.startswith(f"{prefix}/") else f"{prefix}/{name}"), entry
            offset += len(page)

    def _page(self, prefix: str, offset: int) -> list[dict[str, Any]]:
        options: Any = {"limit": PAGE, "offset": offset, "sortBy": {"column": "name", "order": "asc"}}
        return self._retry.call(lambda: self._files.list(prefix, options), f"List of {prefix or self.name}")

    def remove(self, paths: Sequence[str]) -> int:
        """Delete files, and say how many went: those that are not there, or that may not be deleted, are no error."""
        return sum(
            len(self._retry.call(partial(self._files.remove, some), f"Removal of {len(some)} files"))
            for some in _in_parts(paths)
        )

    def sign(self, paths: Sequence[str], seconds: int) -> dict[str, str]:
        """Links that work without a key for `seconds`, by path; a path that is not there has none."""
        links = {}
        for some in _in_parts(paths):
            signed = self._retry.call(partial(self._files.create_signed_urls, some, seconds), "Signed links")
            links.update({str(link["path"]): str(link["signedURL"]) for link in signed if not link["error"]})
        return links


def _in_parts(paths: Sequence[str]) -> Iterator[list[str]]:
    return (list(paths[start : start + AT_ONCE]) for start in range(0, len(paths), AT_ONCE))


def _md5(source: Path | bytes) -> str:
    with source.open("rb") if isinstance(source, Path) else io.BytesIO(source) as file:
        return hashlib.file_digest(file, partial(hashlib.md5, usedforsecurity=False)).hexdigest()
