"""Files of the bucket under the caller's own token: listed, linked for minutes, handed in; only exports are deleted."""

from __future__ import annotations

import re
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import PurePosixPath
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Depends, Query, Request, Response, UploadFile
from pydantic import BaseModel, Field

from api.cursors import Cursor, Limit, Page, page_of
from api.parameters import known_once
from api.problems import Problem, documented
from api.session import Operator, Reader
from api.upstream import Upstream, json_of
from tasks.errors import RequestRefused

router = APIRouter(prefix="/files", tags=["files"], dependencies=[Depends(known_once)])

EXPORTS, UPLOADS = "exports/", "uploads/"
LISTED_AT_ONCE = 1_000
EXTENSIONS = {
    "text/csv": ".csv",
    "application/json": ".json",
    "application/vnd.apache.parquet": ".parquet",
    "image/png": ".png",
    "application/pdf": ".pdf",
}
MAGIC = {".parquet": b"PAR1", ".png": b"\x89PNG\r\n\x1a\n", ".pdf": b"%PDF-"}


class FileInfo(BaseModel):
    """A file, or a folder, whose name ends with a slash."""

    path: str = Field(examples=["exports/2026-02-01/daily_activity-101500-3f1c.csv"])
    bytes: int | None = Field(examples=[31_244])
    created_at: datetime | None


class Link(BaseModel):
    """A link that works for whoever has it, for minutes."""

    url: str
    expires_at: datetime


class Stored(BaseModel):
    """A file that was taken."""

    path: str
    bytes: int


@router.get("", responses=documented(401, 403, 422, 503))
def list_files(
    request: Request,
    caller: Reader,
    prefix: Annotated[str, Query(max_length=400, description="A folder: runs/2026-01-31, exports, uploads.")] = "",
    cursor: Cursor = None,
    limit: Limit = 100,
) -> Page[FileInfo]:
    """What is directly below a folder of the bucket, by name."""
    folder = _checked(prefix.strip("/")) if prefix.strip("/") else ""
    infos = _listed(request.app.state.upstream, caller.token, folder)
    items, after = page_of(infos, key=lambda info: info.path, cursor=cursor, limit=limit)
    return Page(items=items, next=after)


def _listed(upstream: Upstream, token: str, folder: str) -> list[FileInfo]:
    found: dict[str, FileInfo] = {}
    offset = 0
    while True:
        body = {"prefix": folder, "limit": LISTED_AT_ONCE, "offset": offset,
                "sortBy": {"column": "name", "order": "asc"}}  # fmt: skip
        entries = upstream.post(f"/storage/v1/object/list/{quote(upstream.bucket)}", token, body)
        for entry in entries:
            info = _info(folder, entry)
            found[info.path] = info
        if len(entries) < LISTED_AT_ONCE:
            return sorted(found.values(), key=lambda info: info.path)
        offset += len(entries)


def _info(folder: str, entry: dict[str, Any]) -> FileInfo:
    path = f"{folder}/{entry['name']}" if folder else entry["name"]
    if entry.get("id") is None:
        return FileInfo(path=f"{path}/", bytes=None, created_at=None)
    return FileInfo(path=path, bytes=(entry.get("metadata") or {}).get("size"), created_at=entry.get("created_at"))


@router.get("/{path:path}", responses=documented(401, 403, 404, 422, 503))
def link_file(request: Request, caller: Reader, path: str) -> Link:
    """A signed link to a file, good for some minutes (ETL_API_LINK_SECONDS)."""
    upstream, seconds = request.app.state.upstream, request.app.state.settings.api_link_seconds
    address = upstream.object_url("sign", _checked(path))
    try:
        answer = upstream.send("POST", address, caller.token, json={"expiresIn": seconds})
    except RequestRefused as error:
        if error.status == 401:  # of the caller's token or the site's key, and of no file
            raise
        raise _no_file(path) from None
    url = upstream.url(f"/storage/v1{json_of(answer)['signedURL']}")
    return Link(url=url, expires_at=datetime.now(UTC) + timedelta(seconds=seconds))


@router.delete("/{path:path}", status_code=204, responses=documented(401, 403, 404, 503))
def delete_file(request: Request, caller: Operator, path: str) -> Response:
    """Delete an export. Nothing else can be deleted here: runs are retention's business."""
    if not _checked(path).startswith(EXPORTS):
        raise Problem(403, "Only files below exports/ can be deleted here.")
    upstream: Upstream = request.app.state.upstream
    address = upstream.url(f"/storage/v1/object/{quote(upstream.bucket)}")
    answer = upstream.send("DELETE", address, caller.token, json={"prefixes": [path]})
    if not json_of(answer):
        raise _no_file(path)
    return Response(status_code=204)


@router.post("", status_code=201, responses=documented(401, 403, 413, 415, 422, 503))
def upload_file(request: Request, caller: Reader, file: UploadFile) -> Stored:
    """Hand a file in. It lies in uploads/, in a folder of your own that nobody else sees."""
    settings = request.app.state.settings
    kind = (file.content_type or "").partition(";")[0].strip().lower()
    if kind not in [part.strip() for part in settings.api_upload_types.split(",")] or kind not in EXTENSIONS:
        raise Problem(
            415,
            f"This type of file is not taken: {kind[:100] or 'none was stated'}.",
            remedy=f"Taken are {settings.api_upload_types}. State it: curl -F 'file=@x.csv;type=text/csv'.",
        )
    body = file.file.read(settings.api_upload_bytes + 1)
    if len(body) > settings.api_upload_bytes:
        raise Problem(413, f"The file is larger than {settings.api_upload_bytes:,} bytes.")
    path = _upload_path(caller.user_id, file.filename or "", EXTENSIONS[kind])
    if not body.startswith(MAGIC.get(EXTENSIONS[kind], b"")):
        raise Problem(415, f"The content is not {kind}.")
    upstream: Upstream = request.app.state.upstream
    headers = {"Content-Type": kind, "x-upsert": "false"}
    upstream.send("POST", upstream.object_url("", path), caller.token, headers=headers, content=body)
    return Stored(path=path, bytes=len(body))


def _upload_path(user_id: str, filename: str, extension: str) -> str:
    """A new path in the caller's own folder: of the name only plain characters stay."""
    stem = re.sub(r"[^A-Za-z0-9_-]+", "-", PurePosixPath(filename.replace("\\", "/")).stem).strip("-")[:60] or "file"
    return f"{UPLOADS}{user_id}/{datetime.now(UTC):%Y-%m-%d}/{stem}-{uuid.uuid4().hex[:8]}{extension}"


def _checked(path: str) -> str:
    """A path inside the bucket, without tricks. Problem 422."""
    parts = path.split("/")
    if len(path) > 400 or not path.isprintable() or any(part in ("", ".", "..") for part in parts):
        raise Problem(422, "This is no path of a file in the bucket.")
    return path


def _no_file(path: str) -> Problem:
    return Problem(404, f"There is no file {path[:100]!r} for you.", remedy="GET /files lists what there is.")
