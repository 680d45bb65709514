"""Checks of Storage: the bucket, its privacy, an upload and back."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

from tasks.doctor.findings import Finding, advice, fail, ok, warn
from tasks.doctor.project import ask
from tasks.errors import PipelineError, RequestRefused
from tasks.platform.identity import identity_of
from tasks.platform.remedies import no_bucket
from tasks.platform.storage_rights import lacks_delete
from tasks.settings import Settings

SMALL_LIMIT_BYTES = 20 * 2**20
PROBE = b"supabase-nightly doctor\n"
FIRST = b"supabase-nightly\n"  # which the probe replaces, as each run does `latest.json`


def bucket_is_private(settings: Settings) -> Iterator[Finding]:
    """The bucket is there, is private, and its size limit lets a part of a cleaned table through."""
    try:
        path = f"/storage/v1/bucket/{settings.bucket}"
        bucket = ask(settings, "GET", path, what=f"Looking for the bucket {settings.bucket}").json()
    except RequestRefused as error:
        remedy = _no_bucket(settings) if error.status == 404 else advice(error, settings)
        yield fail("bucket", error.message, remedy)
        return
    if bucket.get("public"):
        remedy = "Make it private in Storage, and change what has leaked: the files name users."
        yield fail("bucket", f"The bucket {settings.bucket} is public: anyone can read the reports.", remedy)
    else:
        yield ok("bucket", f"The bucket {settings.bucket} is there and private.")
    limit = bucket.get("file_size_limit")
    if limit and int(limit) < SMALL_LIMIT_BYTES:
        text = f"The bucket takes files of at most {int(limit) / 2**20:,.1f} MiB."
        yield warn("bucket", text, "Raise its file size limit to 50 MiB, or lower ETL_PART_ROWS.")


def upload_works(settings: Settings) -> Iterator[Finding]:
    """A few bytes up, others in their place, back and away again, under a name that nobody reads."""
    name = f"doctor/{secrets.token_hex(8)}.txt"
    folder = f"/storage/v1/object/{settings.bucket}"
    path = f"{folder}/{name}"
    try:
        for what, body, upsert in (("Uploading a probe", FIRST, "false"), ("Replacing the probe", PROBE, "true")):
            headers = {"Content-Type": "text/plain", "x-upsert": upsert}
            ask(settings, "POST", path, what=what, content=body, headers=headers)
        back = ask(settings, "GET", path, what="Reading the probe back").content
        gone = ask(settings, "DELETE", folder, what="Deleting the probe", json={"prefixes": [name]}).json()
    except PipelineError as error:
        yield fail("upload", error.message, _upload_advice(error, settings))
        return
    if not gone:
        text = f"The probe {name} went up and cannot be deleted, and no more can what is past its time."
        yield fail("upload", text, lacks_delete(settings.bucket))
    elif back == PROBE:
        yield ok("upload", "A probe went up, was replaced, was read back unchanged, and is gone again.")
    else:
        yield fail("upload", "The probe came back changed.", "A proxy or CDN alters files: take it out of the way.")


def _no_bucket(settings: Settings) -> str:
    return no_bucket(settings.bucket, as_etl=identity_of(settings).kind != "service key")


def _upload_advice(error: PipelineError, settings: Settings) -> str:
    status = error.status if isinstance(error, RequestRefused) else 0
    if status == 413:
        return "The file size limit of the bucket or the project is too low: raise it in Storage settings."
    if status == 415:
        return "The bucket allows certain file types only: allow all, or text/plain, image/png and application/*."
    return _no_bucket(settings) if status == 404 else advice(error, settings)
