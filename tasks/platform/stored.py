"""What Storage says of a file: in a listing or about one path, on the hosted platform and the embedded one alike."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tasks.errors import FileLost, RequestRefused

REFRESH = "Start the run again with --full-refresh: it reads nothing of earlier runs."
_MD5 = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class StoredInfo:
    """Size in bytes and md5 of a stored file. None: not stated, or an eTag that is no md5 (an upload in parts)."""

    size: int | None
    md5: str | None


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file of a listing. created_at: ISO text, or None where the server does not say."""

    path: str
    created_at: str | None
    info: StoredInfo = StoredInfo(None, None)


def parse_info(answer: Mapping[str, Any]) -> StoredInfo:
    """Hosted: `size` and `etag` at the top level of an answer; in a listing and in lite below `metadata`, as `eTag`."""
    metadata = answer.get("metadata") or {}
    size = answer.get("size", metadata.get("size"))
    etag = str(answer.get("etag") or metadata.get("eTag") or "").removeprefix("W/").strip('"').lower()
    return StoredInfo(int(size) if size is not None else None, etag if _MD5.fullmatch(etag) else None)


def is_missing(error: RequestRefused) -> bool:
    """Whether Storage refused a request because there is no such file."""
    return error.status == 404 or error.code in ("not_found", "NoSuchKey")


def no_bucket_seen(error: RequestRefused) -> bool:
    """Whether Storage said that there is no bucket. Of a file it says that also to a token that it does not take.

    Source: `allowInvalidJwt` in src/http/routes/object of supabase/storage.
    """
    return error.code in ("NoSuchBucket", "Bucket not found")


def damaged(path: str, *, left: str = "") -> FileLost:
    """The error for a file of an earlier run whose content is another one. left: what was not written for that."""
    problem = f"{path} is damaged: its content is not what its manifest says"
    return FileLost(f"{problem}." + (f" {left} was not written." if left else ""), remedy=REFRESH, problem=problem)
