"""The base's files on this machine: kept from the last run where they are, else downloaded, always verified."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tasks.files.manifest import FileEntry, sha256_of
from tasks.incremental.base import NEEDED
from tasks.ledger.resume import project_folder
from tasks.platform.bucket import Bucket
from tasks.platform.buckets import each
from tasks.platform.stored import damaged
from tasks.settings import Settings

_FOLDER = "base"


@dataclass(frozen=True)
class BaseFiles:
    """Files by the checksum of their content: a month that stays the same from night to night is kept once.

    run_path: where the base's files are in the bucket. scratch: the run's own folder for them, which goes with the run.
    """

    settings: Settings
    run_path: str
    scratch: Path

    def path(self, entry: FileEntry) -> Path:
        """The file on this disk. FileLost when the bucket's is gone, or not what the manifest says."""
        return self.paths([entry])[0]

    def paths(self, entries: Iterable[FileEntry]) -> list[Path]:
        """Several files; those that are not here are downloaded at once."""
        wanted = list(entries)
        missing = {e.sha256: e for e in wanted if not self._is_here(e)}
        for _ in each(self.settings, self._download, list(missing.values())):
            pass
        return [self.scratch / e.sha256 for e in wanted]

    def _is_here(self, entry: FileEntry) -> bool:
        own = self.scratch / entry.sha256
        if not own.exists():
            self._take(cache_folder(self.settings) / entry.sha256, own)
        return own.exists() and sha256_of(own.read_bytes()) == entry.sha256

    def _take(self, kept: Path, own: Path) -> None:
        """A name of the run's own for a kept file: a run that commits beside a dry one keeps none but its own files."""
        self.scratch.mkdir(parents=True, exist_ok=True)
        try:
            os.link(kept, own)
        except (FileNotFoundError, FileExistsError):
            return
        except OSError:  # a disk without links
            shutil.copyfile(kept, own)

    def _download(self, bucket: Bucket, entry: FileEntry) -> None:
        path = f"{self.run_path}/{entry.path}"
        body = bucket.download_published(path)
        if sha256_of(body) != entry.sha256:
            raise damaged(path)
        (cache_folder(self.settings) / entry.sha256).unlink(missing_ok=True)
        self.scratch.mkdir(parents=True, exist_ok=True)
        (self.scratch / entry.sha256).write_bytes(body)


def cache_folder(settings: Settings) -> Path:
    """Where the files of the next base stay: no text of a person, but ids of users."""
    return settings.data_dir / _FOLDER / project_folder(settings)


def keep_files(settings: Settings, entries: Iterable[FileEntry], *folders: Path) -> None:
    """Keep the committed run's files, and nothing else. folders: that have them, by path or checksum."""
    folder = cache_folder(settings)
    if not settings.keep_base:
        shutil.rmtree(folder, ignore_errors=True)
        return
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    wanted = {entry.sha256: entry for entry in entries if entry.kind in NEEDED}
    for sha256, entry in wanted.items():
        found = next((p for at in folders for p in (at / entry.path, at / sha256) if p.exists()), None)
        if found is not None and not (folder / sha256).exists():
            os.replace(found, folder / sha256)
    for file in folder.iterdir():
        if file.name not in wanted:
            file.unlink()
