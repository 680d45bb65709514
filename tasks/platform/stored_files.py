"""All files below a folder of the bucket in one request: Storage itself lists folder by folder."""

from __future__ import annotations

from tasks.platform.functions import open_database
from tasks.platform.stored import StoredInfo, parse_info
from tasks.settings import Settings


def stored_below(settings: Settings, folder: str) -> dict[str, StoredInfo] | None:
    """Size and checksum of the files below `folder`, by path, as Storage's table in the database has them.

    None where the database does not show that table: without Storage, or without the right to read it. A listing by
    Storage reads the same table: https://supabase.com/docs/guides/storage/schema/design
    """
    with open_database(settings) as database:
        found = database.call("etl_stored_files", p_bucket=settings.bucket, p_prefix=f"{folder}/")
    if found is None:
        return None
    return {path: parse_info({"size": size, "etag": etag}) for path, size, etag in found}
