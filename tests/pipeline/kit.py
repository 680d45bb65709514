"""What the tests of whole runs share: a project to run on, and everything that a run leaves behind."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from local_stack import Stack
from tasks.contracts import TABLES
from tasks.platform.bucket import Bucket
from tasks.settings import Settings, Transport

AS_OF = "2026-01-31T00:00:00+00:00"
CLOCK = 0.1  # of all waiting times, where a test takes the default ones
UNTIL = "2026-01-31T00:00:00+00:00"
# Everything of a run that must not depend on how often it was disturbed.
_TABLES = {
    "clean_users": "select * from public.clean_users order by id",
    "clean_posts": "select * from public.clean_posts order by id",
    "user_statistics": "select * from public.user_statistics order by as_of",
    "daily_activity": "select * from public.daily_activity order by date",
    "etl_rejects": 'select "table", key, rule, "column", came, expected from public.etl_rejects order by 1, 2, 3',
}


@dataclass(frozen=True)
class Project:
    """A stack, a folder for the runs' own folders, and the variables that say as whom runs act."""

    stack: Stack
    folder: Path
    identity: Mapping[str, str]

    @property
    def access(self) -> dict[str, str]:
        """The project's addresses and the identity of its runs: the service key only where that is the identity."""
        return {"SUPABASE_URL": self.stack.url, "SUPABASE_DB_URL": self.stack.db_url, **self.identity}

    def env(self, transport: Transport, **more: str) -> dict[str, str]:
        """The environment of a process that runs the pipeline here, with pauses fit for a test."""
        return {
            **self.access,
            "ETL_TRANSPORT": transport,
            "ETL_DATA_DIR": str(self.folder / "data"),
            "ETL_LEASE_SECONDS": "2",
            "ETL_WAIT_FOR_LEASE": "20",
            "ETL_RETRY_BASE": "0.05",
            "ETL_RUN_RETRY_SECONDS": "0.2",
            **more,
        }

    def default_env(self, transport: Transport) -> dict[str, str]:
        """The environment of a process with the default lease and retries, a tenth as long on the clock."""
        folder = {"ETL_DATA_DIR": str(self.folder / "data")}
        return {**self.access, **folder, "ETL_TRANSPORT": transport, "ETL_CLOCK_SCALE": str(CLOCK)}

    def settings(self, transport: Transport = "rest") -> Settings:
        return Settings(
            _env_file=None,
            supabase_url=self.stack.url,
            supabase_service_key=self.stack.service_key,
            supabase_db_url=self.stack.db_url,
            transport=transport,
        )

    @cached_property
    def bucket(self) -> Bucket:
        return Bucket(self.settings())

    def file(self, path: str) -> bytes | None:
        return self.bucket.find(path)

    def latest(self) -> dict[str, Any] | None:
        """What latest.json says; None when there is none."""
        body = self.file("latest.json")
        return dict(json.loads(body)) if body else None

    def manifest(self) -> dict[str, Any]:
        """The manifest that latest.json names, checked by its sha256."""
        latest = self.latest()
        assert latest is not None
        body = self.file(latest["manifest"])
        assert body is not None
        assert hashlib.sha256(body).hexdigest() == latest["manifest_sha256"]
        return dict(json.loads(body))

    def files(self) -> dict[str, str]:
        """Path to sha256 of all Parquet files of the latest run, as its manifest says."""
        files = self.manifest()["files"]
        return {file["path"]: file["sha256"] for file in files if file["path"].endswith(".parquet")}

    def assert_whole(self) -> None:
        """What latest.json names is all there, byte for byte: what a reader of the pointer relies on."""
        latest = self.latest()
        if latest is None:
            return
        for file in self.manifest()["files"]:
            body = self.file(f"{latest['run']}/{file['path']}")
            assert body is not None, file["path"]
            assert hashlib.sha256(body).hexdigest() == file["sha256"], file["path"]

    def state(self) -> dict[str, str]:
        """A digest of each table of ours and of the files that latest.json names."""
        tables = {name: self.stack.query(query) for name, query in _TABLES.items()}
        digests = {name: hashlib.sha256(rows.encode()).hexdigest() for name, rows in tables.items()}
        return {**digests, **self.files()}

    def writes(self) -> dict[str, str]:
        """Which transaction wrote each row of the cleaned tables last: unchanged when nothing was written."""
        return {
            table.clean: self.stack.query(
                f"select md5(string_agg(xmin::text, ',' order by {table.key.name})) from public.{table.clean}"
            )
            for table in TABLES
        }

    def remove_local_runs(self) -> list[str]:
        """Folders of runs that are left, of every project."""
        return [run.name for run in (self.folder / "data" / "runs").glob("*/*")]
