"""The reports of a run as CSV, for people without a Parquet reader: beside the run, not in its manifest."""

from __future__ import annotations

import io
from pathlib import PurePosixPath

import pyarrow.parquet as pq

from flows.engine.outcome import RunOutcome
from tasks.files.manifest import FileEntry
from tasks.platform.bucket import Bucket
from tasks.platform.buckets import each
from tasks.publish.export import csv_of
from tasks.settings import Settings

MOST_ROWS = 100_000  # a larger report is exported on request: it would cost more than it is looked at


def publish_csv(settings: Settings, outcome: RunOutcome) -> dict[str, str]:
    """Store each report of at most 100,000 rows as CSV under exports/; paths in the bucket by the report's name."""
    folder = f"exports/{outcome.as_of:%Y-%m-%d}"
    entries = [entry for entry in outcome.files if entry.kind == "report" and entry.rows <= MOST_ROWS]

    def store(bucket: Bucket, entry: FileEntry) -> tuple[str, str]:
        name = PurePosixPath(entry.path).stem
        path = f"{folder}/{name}-{outcome.run_id}.csv"
        body = bucket.download(f"{outcome.run_path}/{entry.path}")
        bucket.store(path, b"".join(csv_of(pq.read_table(io.BytesIO(body)))))
        return name, path

    return dict(each(settings, store, entries))
