"""Files of the bucket on this machine, by their sha256: what did not change is not downloaded again.

Some name user ids, so only the user may read the folder, and no file stays longer than the bucket keeps such files.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tasks.errors import ReadError
from tasks.files.manifest import sha256_of
from tasks.settings import Settings


@dataclass(frozen=True, slots=True)
class Cache:
    """A folder of files named after their sha256."""

    folder: Path

    @classmethod
    def of(cls, settings: Settings) -> Cache:
        """The cache of these settings, without what is older than `keep_days` days."""
        folder = settings.cache_dir.expanduser()
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        cache = cls(folder)
        cache.forget(older_than=time.time() - settings.keep_days * 86_400)
        return cache

    def forget(self, *, older_than: float) -> None:
        """Delete files that came before a time (seconds since the epoch)."""
        for file in self.folder.iterdir():
            if file.stat().st_mtime < older_than:
                file.unlink(missing_ok=True)

    def get(self, sha256: str, download: Callable[[], bytes], what: str) -> Path:
        """The file of that checksum, downloaded when it is not here whole; ReadError when something else came."""
        path = self.folder / f"{sha256}.parquet"
        if path.exists() and sha256_of(path.read_bytes()) == sha256:
            return path
        body = download()
        if sha256_of(body) != sha256:
            raise ReadError(
                f"{what} is not what its manifest says.", remedy="Read it again; tell the operator if it stays."
            )
        self._keep(path, body)
        return path

    def _keep(self, path: Path, body: bytes) -> None:
        """Under its name only when whole: others may read the same cache at the same time."""
        handle, part = tempfile.mkstemp(dir=self.folder)
        with os.fdopen(handle, "wb") as file:
            file.write(body)
        os.replace(part, path)
