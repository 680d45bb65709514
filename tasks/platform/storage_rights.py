"""Which right on Storage's tables a request takes, and how the role etl gets it: no refusal of Storage's names one."""

from __future__ import annotations

import httpx

from tasks.platform.quoting import identifier, literal

BY_SQL = "In the SQL editor: "


def remedy_for_etl(request: httpx.Request, bucket: str) -> str:
    """What to do about a request that Storage refused to the role etl: the right that is lacking, and the SQL."""
    path = request.url.path.partition("/storage/v1/")[2]
    if path.startswith("bucket/"):
        return f"The role etl lacks select on storage.buckets. {sees_bucket(bucket)}"
    return f"The role etl lacks {_right(request, path)} on storage.objects. {keeps_files(bucket)}"


def _right(request: httpx.Request, path: str) -> str:
    """Of more than one any may be lacking: neither Storage nor the database says which."""
    if request.method == "DELETE":
        return "delete"
    if request.method == "GET" or path.startswith(("object/list/", "object/info/", "object/sign/")):
        return "select"
    if path == "object/copy":
        return "select or insert"
    return "insert, update or select" if request.headers.get("x-upsert") == "true" else "insert"


def sees_bucket(bucket: str) -> str:
    """The SQL by which etl sees a bucket."""
    grants = "grant usage on schema storage to etl; grant select on storage.buckets to etl;"
    policy = _policy(f"etl sees {bucket}", "storage.buckets", f"for select to etl using (id = {literal(bucket)})")
    return f"{BY_SQL}{grants} {policy}"


def keeps_files(bucket: str) -> str:
    """The SQL by which etl reads, writes and deletes the files of a bucket."""
    own = f"(bucket_id = {literal(bucket)})"
    grants = "grant usage on schema storage to etl; grant select, insert, update, delete on storage.objects to etl;"
    policy = _policy(f"etl keeps {bucket}", "storage.objects", f"for all to etl using {own} with check {own}")
    return f"{BY_SQL}{grants} {policy} A policy `as restrictive` must not apply to etl."


def lacks_delete(bucket: str) -> str:
    """What to do where files stay that Storage was asked to delete."""
    return f"The role etl lacks delete on storage.objects. {keeps_files(bucket)}"


def _policy(name: str, table: str, rule: str) -> str:
    """One of that name may be there: docs/keys.md has the same, and a refused statement takes back those before it."""
    policy = f"{identifier(name)} on {table}"
    return f"drop policy if exists {policy}; create policy {policy} {rule};"
