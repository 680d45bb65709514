"""Files of the bucket on this machine, by their sha256: what did not change is not downloaded again.

The last pointer and the manifests are kept too, so that what was downloaded can be read without a network; and what
runs are chosen by (`tasks.read.facts`). Some files name user ids, so only the user may read the folder, and no file
stays longer than the bucket keeps such files.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tasks.errors import ConfigurationError, ReadError
from tasks.files.manifest import sha256_of
from tasks.platform.whole_file import whole_file
from tasks.settings import Settings


@dataclass(frozen=True, slots=True)
class Cache:
    """A folder of files named after their sha256, and of small ones named after their place in the bucket."""

    folder: Path
    place: str

    @classmethod
    def of(cls, settings: Settings) -> Cache:
        """The cache of these settings, without what is older than `keep_days` days."""
        folder = made(settings.cache_dir)
        with _named(folder, "made or written"):
            forget(folder, days=settings.keep_days)
        return cls(folder, f"{settings.supabase_url}/{settings.bucket}")

    def find(self, sha256: str) -> Path | None:
        """The file of that checksum, when it is here and undamaged."""
        path = self.folder / f"{sha256}.parquet"
        with suppress(FileNotFoundError):
            if sha256_of(path.read_bytes()) == sha256:
                return path
        return None

    def get(self, sha256: str, download: Callable[[], bytes], what: str) -> Path:
        """The file of that checksum, downloaded when it is not here; ReadError when another content arrives."""
        if found := self.find(sha256):
            return found
        body = download()
        if sha256_of(body) != sha256:
            raise ReadError(
                f"{what} is not what its manifest says.", remedy="Read it again; if it stays, ask the operator."
            )
        path = self.folder / f"{sha256}.parquet"
        self._keep(path, body)
        return path

    def remember(self, path: str, body: bytes | None) -> None:
        """Keep the last content of a small file of the bucket; None forgets it."""
        if body is None:
            self._small(path).unlink(missing_ok=True)
        else:
            self._keep(self._small(path), body)

    def recall(self, path: str) -> bytes | None:
        """The last content of a small file of the bucket that was seen from here."""
        with suppress(FileNotFoundError):
            return self._small(path).read_bytes()
        return None

    def _small(self, path: str) -> Path:
        return self.folder / f"{hashlib.sha256(f'{self.place}/{path}'.encode()).hexdigest()}.json"

    def _keep(self, path: Path, body: bytes) -> None:
        """Under its name only when complete: others may read the same cache at the same time."""
        with _named(self.folder, "written"), whole_file(path, private=True) as part:
            part.write_bytes(body)


def made(folder: Path) -> Path:
    """The folder in which files are kept, for this user alone. ConfigurationError where it cannot be made."""
    folder = _at_home(folder)
    with _named(folder, "made or written"):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


def forget(folder: Path, *, days: float, files: str = "*") -> None:
    """Delete files of a folder that were stored so many days ago; other processes may do the same meanwhile.

    files: a pattern of their names. A folder in it, as the reports site has one here, is left alone.
    """
    older_than = time.time() - days * 86_400
    for file in list(folder.glob(files)):
        with suppress(FileNotFoundError):
            if file.is_file() and file.stat().st_mtime < older_than:
                file.unlink()


def _at_home(folder: Path) -> Path:
    """The folder without its ~. An account of a container has no home where neither HOME nor the system names one."""
    try:
        return folder.expanduser()
    except RuntimeError:
        raise ConfigurationError(
            f"The folder of ETL_CACHE_DIR, {folder}, is in a home, and this system knows none of that account.",
            remedy="Set ETL_CACHE_DIR to a folder that you may write.",
        ) from None


@contextmanager
def _named(folder: Path, what: str) -> Iterator[None]:
    """A disk that is full or read-only is a sentence, with the setting that names the folder."""
    try:
        yield
    except OSError as error:
        raise ConfigurationError(
            f"The folder of ETL_CACHE_DIR, {folder}, cannot be {what}: {error.strerror}.",
            remedy="Make room there, or set ETL_CACHE_DIR to a folder that you may write and that has room.",
        ) from None
