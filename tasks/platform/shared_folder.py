"""The run's folder for workers that do not share a disk with the coordinator: an fsspec URL, such as s3://bucket/prefix.

Files go there under their names in the run's folder. Each process has them in a folder of its own as well, and fetches
a file when it is asked for and another version of it lies at the URL.
"""

from __future__ import annotations

import dataclasses
import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar, cast

import fsspec

from tasks.errors import ConfigurationError, PipelineError, ServiceUnavailable
from tasks.platform.whole_file import part_of, whole_file

T = TypeVar("T")
Version = tuple[Any, ...]


@dataclass
class SharedFolder:
    """url: where the run's files lie; local: this process's own folder for them."""

    url: str
    local: Path
    _seen: dict[str, Version] = field(default_factory=dict)

    def push(self, paths: Iterable[Path]) -> list[str]:
        """Put files of the local folder there, where they are not yet. Returns their names."""
        files, base = fsspec.core.url_to_fs(self.url)
        pushed = []
        for path in paths:
            name = path.relative_to(self.local).as_posix()
            version = _version_here(path)
            if self._seen.get(name) != version:
                target = f"{base}/{name}"
                files.makedirs(str(PurePosixPath(target).parent), exist_ok=True)
                part = part_of(PurePosixPath(target)).as_posix()
                files.put_file(str(path), part)
                files.mv(part, target)
                self._seen[name] = version
            pushed.append(name)
        return pushed

    def pull(self, names: Iterable[str]) -> None:
        """Fetch files that are not here, or here as another version."""
        files, base = fsspec.core.url_to_fs(self.url)
        for name in names:
            path = self.local / name
            size = int(files.info(f"{base}/{name}")["size"])
            there = (size, str(files.modified(f"{base}/{name}")))
            if self._seen.get(f"there:{name}") == there and path.exists():
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(path) as part:
                files.get_file(f"{base}/{name}", str(part))
            self._seen[f"there:{name}"] = there
            self._seen[name] = _version_here(path)

    def changed(self) -> list[Path]:
        """Files here that were neither pushed nor pulled as they are."""
        found = (path for path in self.local.rglob("*") if path.is_file() and path.suffix not in (".part", ".lock"))
        return [p for p in found if self._seen.get(p.relative_to(self.local).as_posix()) != _version_here(p)]

    def forget(self, *, but: str) -> None:
        """Delete the local files outside of the folder `but`: the next unit needs others."""
        for path in self.local.rglob("*"):
            if path.is_file() and path.relative_to(self.local).parts[0] != but:
                path.unlink()

    def remove(self) -> None:
        """Delete all of it at the URL: it holds personal data, and goes with the run."""
        files, base = fsspec.core.url_to_fs(self.url)
        if files.exists(base):
            files.rm(base, recursive=True)


@contextmanager
def exchanging(what: str, url: str) -> Iterator[None]:
    """What fails while files are exchanged there, in a sentence. what: as `put what a unit reads at`.

    Each driver of fsspec has errors of its own, and their words may hold keys: only their kind is repeated. That a disk
    is full is said elsewhere.
    """
    try:
        yield
    except PipelineError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise _failed(f"{os.uname().nodename} could not {what} ETL_SHARED_DIR, {url}", error) from None


def _failed(what: str, error: Exception) -> PipelineError:
    text = f"{what} ({type(error).__name__})."
    if isinstance(error, FileNotFoundError):
        gone = (
            "Something else removes files there, as a rule of the bucket may: it must leave those of a run that runs."
        )
        return ConfigurationError(text, remedy=f"{gone} Then start the run again.")
    if isinstance(error, PermissionError):
        right = "Give the coordinator and each worker the right to read, write and delete there, for as long as a run."
        return ConfigurationError(text, remedy=f"{right} Then start the run again.")
    seen = "See whether that store answers, and what its driver needs on this machine (docs/scaling.md)."
    return ServiceUnavailable(text, remedy=f"{seen} A new start of the run reads what is missing again.")


def _version_here(path: Path) -> Version:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns


def relocate(value: T, old: Path, new: Path) -> T:
    """The same value with every path below `old` below `new`: in dataclasses, tuples, lists and dicts."""
    return cast(T, _relocated(value, old, new))


def _relocated(value: Any, old: Path, new: Path) -> Any:
    if isinstance(value, Path):
        return new / value.relative_to(old) if value.is_relative_to(old) else value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [f.name for f in dataclasses.fields(value) if f.init]
        changed = {name: _relocated(getattr(value, name), old, new) for name in names}
        return dataclasses.replace(value, **changed) if _differs(value, changed) else value
    if type(value) in (tuple, list):
        return type(value)(_relocated(item, old, new) for item in value)
    if type(value) is dict:
        return {key: _relocated(item, old, new) for key, item in value.items()}
    return value


def _differs(value: Any, changed: dict[str, Any]) -> bool:
    return any(getattr(value, name) is not item for name, item in changed.items())
