"""Runs and their files as one caller sees them: found by the reading kit, under the caller's own token.

What a token may see is asked of the project, and remembered for seconds. Files are kept on this machine by their
sha256, as long as the bucket keeps such files; before one is used, Storage is asked whether this caller may have it.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from api.memo import Memo
from api.tokens import Caller
from api.upstream import Upstream, network_errors
from tasks.errors import ReadError, RequestRefused
from tasks.files.layout import parse_run_path
from tasks.files.manifest import FileEntry, Manifest
from tasks.platform.stored import is_missing
from tasks.platform.whole_file import whole_file
from tasks.read import Diff, OpenRun, diff, read_history
from tasks.read.cache import forget, made
from tasks.read.catalog import open_catalog
from tasks.read.options import is_as_of
from tasks.settings import Settings

CHUNK = 2**18
RUN_ID = re.compile(r"[0-9A-Za-z][0-9A-Za-z-]{0,99}")
HISTORY_SECONDS = 120.0
TABLES = 24  # whole reports in memory at most


class Store:
    """Manifests, days with runs and local copies of files; those lie in `folder`."""

    def __init__(self, settings: Settings, upstream: Upstream) -> None:
        self.settings, self._upstream = settings, upstream
        self.folder = made(made(settings.cache_dir) / "api")
        self._manifests: Memo[Manifest] = Memo(seconds=settings.api_remember_seconds, size=2_000)
        self._days: Memo[list[str]] = Memo(seconds=settings.api_remember_seconds, size=500)
        self._histories: Memo[pd.DataFrame] = Memo(seconds=HISTORY_SECONDS, size=100)
        self._tables: Memo[pa.Table] = Memo(seconds=600, size=TABLES)
        self._allowed: Memo[bool] = Memo(seconds=settings.api_remember_seconds, size=10_000)
        self._files: Memo[Path] = Memo(seconds=3_600, size=10_000)

    def manifest(self, caller: Caller, *, as_of: str | None = None, run: str | None = None) -> Manifest:
        """The manifest of a run, by default of the current one. ReadError when there is none such for this caller."""
        return self._manifests.get((_who(caller), as_of, run), lambda: self._find(caller, as_of, run))

    def _find(self, caller: Caller, as_of: str | None, run: str | None) -> Manifest:
        if run is not None and not (RUN_ID.fullmatch(run) or parse_run_path(run)):
            raise ReadError(f"There is no run {run[:60]!r}.", remedy="GET /runs lists what there is.")
        # Not tasks.read.open_run: that one falls back on what anybody on this machine has read before.
        with open_catalog(self.settings, caller.token) as catalog:
            try:
                return catalog.find(as_of=as_of, run=run)
            except ReadError:
                if as_of is not None or run is not None or catalog.days():
                    raise
        # The token is one of this project's, and its role may read: there is nothing yet.
        raise ReadError("No run was committed yet.", remedy="The next nightly makes the first one.")

    def open(self, caller: Caller, manifest: Manifest, *paths: str) -> OpenRun:
        """A run to read frames from, once this caller may have the files of it that are named.

        One that the manifest does not list is left to whoever reads it: that says why the run does not have it.
        """
        for path in paths:
            if manifest.file(path):
                self._require(caller, f"{manifest.run}/{path}")
        return OpenRun(manifest, self.settings, caller.token)

    def days(self, caller: Caller) -> list[str]:
        """The days that have runs, latest first."""
        return self._days.get(_who(caller), lambda: self._look_for_days(caller))

    def _look_for_days(self, caller: Caller) -> list[str]:
        with open_catalog(self.settings, caller.token) as catalog:
            return catalog.days()

    def table(self, caller: Caller, manifest: Manifest, name: str) -> pa.Table:
        """A whole report of a run as Arrow. Rows of one content are held once, whoever looks at them."""
        path = f"reports/{name}.parquet"
        run, entry = self.open(caller, manifest, path), manifest.file(path)
        return self._tables.get(entry and entry.sha256, lambda: run.report(name, engine="arrow"))

    def frame(self, caller: Caller, manifest: Manifest, name: str) -> pd.DataFrame:
        """A whole report of a run as pandas."""
        self.table(caller, manifest, name)  # asks whether this caller may have it
        frame: pd.DataFrame = OpenRun(manifest, self.settings, caller.token).report(name)
        return frame

    def diff(self, caller: Caller, name: str, base: str, run: str | None) -> Diff[pa.Table]:
        """How a report of one run differs from that of another: tasks.read.diff, under the caller's token."""
        path = f"reports/{name}.parquet"
        opened = [self.open(caller, self.chosen(caller, one), path) for one in (base, run)]
        return diff(name, *opened, engine="arrow")

    def chosen(self, caller: Caller, run: str | None) -> Manifest:
        """A run by its id, path, day or instant; None is the current one."""
        if run is not None and is_as_of(run):
            return self.manifest(caller, as_of=run)
        return self.manifest(caller, run=run)

    def history(self, caller: Caller, name: str, *, days: int = 60) -> pd.DataFrame:
        """A report over the runs of many days: tasks.read.read_history, under the caller's token."""
        latest = self.manifest(caller).run_id
        return self._histories.get(
            (_who(caller), name, days, latest),
            lambda: read_history(name, days=days, access_token=caller.token, settings=self.settings),
        )

    def file(self, caller: Caller, manifest: Manifest, entry: FileEntry) -> Path:
        """A local copy of a file of a run, which this caller may read and whose bytes are those of its manifest."""
        path = f"{manifest.run}/{entry.path}"
        self._require(caller, path)
        local = self.folder / f"{entry.sha256}.parquet"

        def copy() -> Path:
            return self._copy(caller, path, local, entry.sha256)

        found = self._files.get(local, copy)
        return found if found.exists() else copy()  # forgotten since

    def _require(self, caller: Caller, path: str) -> None:
        self._allowed.get((_who(caller), path), lambda: self._ask(caller, path))

    def _ask(self, caller: Caller, path: str) -> bool:
        """Row-level security decides: a file that the caller may not see is a ReadError or an AccessError."""
        address = self._upstream.object_url("info", path)
        try:
            self._upstream.send("GET", address, caller.token)
        except RequestRefused as error:
            if not is_missing(error):
                raise
            raise ReadError(f"{path} is not there any more.", remedy="GET /runs lists what there is.") from None
        return True

    def _copy(self, caller: Caller, path: str, local: Path, sha256: str) -> Path:
        """Downloaded piece by piece, whatever its size; under its name only when it is whole and right.

        What was downloaded too long ago goes then: some files name user ids.
        """
        forget(self.folder, days=self.settings.keep_days, files="*.parquet*")
        if local.exists():
            return local
        with whole_file(local, private=True) as part:
            with part.open("wb") as file:
                received = self._download(caller, path, file.write)
            if received != sha256:
                raise ReadError(f"{path} is not what its manifest says.", remedy="Inform the operator if it stays so.")
        return local

    def _download(self, caller: Caller, path: str, write: Any) -> str:
        address, digest = self._upstream.object_url("", path), hashlib.sha256()
        headers = self._upstream.headers(caller.token)
        with network_errors(), self._upstream.http.stream("GET", address, headers=headers) as answer:
            for chunk in answer.iter_bytes(CHUNK):
                digest.update(chunk)
                write(chunk)
        return digest.hexdigest()


def _who(caller: Caller) -> str:
    """A token's key in memory: its hash, as the token itself is not kept."""
    return hashlib.sha256(caller.token.encode()).hexdigest()
