"""The folder of a stack: everything it knows and keeps is in there."""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from local_stack.errors import StackError

# A fresh database with the demo data takes 220 MB; one that is there needs some room to start.
_FRESH_BYTES = 300 * 2**20
_START_BYTES = 50 * 2**20
_LOCK_PATIENCE_SECONDS = 300


@dataclass(frozen=True)
class Home:
    """Paths below the folder `path`. Make one with `Home.at`."""

    path: Path

    @classmethod
    def at(cls, path: Path | str) -> Home:
        """The home at `path` (made absolute, not created)."""
        return cls(Path(path).expanduser().resolve())

    @property
    def cluster(self) -> Path:
        """PostgreSQL's data."""
        return self.path / "postgres"

    @property
    def storage(self) -> Path:
        """The files of Storage."""
        return self.path / "storage"

    @property
    def state(self) -> Path:
        """Ports, keys and passwords; mode 0600."""
        return self.path / "stack.json"

    @property
    def launcher_settings(self) -> Path:
        """The settings of the API's launcher; mode 0600."""
        return self.path / "api.json"

    @property
    def kept(self) -> Path:
        """There while the stack is to go on when the last command that uses it has ended."""
        return self.path / "kept"

    def log(self, name: str) -> Path:
        """The log of a process."""
        return self.path / "logs" / f"{name}.log"

    def pid_file(self, name: str) -> Path:
        """Which process it is."""
        return self.path / f"{name}.pid"

    def exists(self) -> bool:
        """Whether the folder is there. StackError where this user may not look."""
        try:
            return self.path.exists()
        except PermissionError:
            raise _of_another_user(self.path) from None

    def create(self, *, traversable: bool) -> None:
        """Make the folder. `traversable`: another account (PostgreSQL's, under root) passes through it."""
        try:
            self.path.mkdir(mode=0o711 if traversable else 0o700, parents=True, exist_ok=True)
            (self.path / "logs").mkdir(mode=0o700, exist_ok=True)
            self.storage.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise StackError(
                f"The folder {self.path} cannot be made or written: {error.strerror}.",
                remedy="Give another folder with --home.",
            ) from error

    def require_space(self) -> None:
        """Refuse to start on a disk that is all but full, before a full disk breaks anything."""
        free = shutil.disk_usage(self.path).free
        needed = _START_BYTES if self.cluster.exists() else _FRESH_BYTES
        if free < needed:
            raise StackError(
                f"{self.path} is on a disk with {free // 2**20} MB free; the stack needs {needed // 2**20} MB.",
                remedy="Free some space or give another folder with --home; nothing was changed.",
            )

    @contextmanager
    def locked(self, say: Callable[[str], None]) -> Iterator[None]:
        """Hold the folder for this process alone; wait for another one's `up` or `down` to end."""
        with lock_file(self.path / ".lock", f"Another command is working on {self.path}", say):
            yield

    @contextmanager
    def used(self) -> Iterator[Callable[[], bool]]:
        """Use the stack as one of several commands; the function says whether no other does, and then none begins to.

        A lock that dies with its holder; who comes while the last one stops the stack waits for that.
        """
        with _opened(self.path / ".users") as file:
            fcntl.flock(file, fcntl.LOCK_SH)
            yield lambda: _is_sole(file)

    def write_private(self, path: Path, text: str) -> None:
        """Write a file that only its owner may read, whole or not at all."""
        part = path.with_suffix(".part")
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)


def _is_sole(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        fcntl.flock(file, fcntl.LOCK_UN)  # one that leaves at the same time is the last
        return False
    return True


def _opened(path: Path) -> IO[str]:
    try:
        return path.open("a")
    except PermissionError:
        raise _of_another_user(path.parent) from None


def _of_another_user(folder: Path) -> StackError:
    return StackError(f"{folder} belongs to another user.", remedy="Give another folder with --home.")


@contextmanager
def lock_file(path: Path, busy: str, say: Callable[[str], None]) -> Iterator[None]:
    """A lock that dies with its holder. Waits up to five minutes, saying `busy`."""
    with _opened(path) as file:
        deadline = time.monotonic() + _LOCK_PATIENCE_SECONDS
        said = False
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise StackError(f"{busy} for too long.", remedy="Look for it with `ps` and end it.") from None
                if not said:
                    say(f"{busy}: waiting …")
                    said = True
                time.sleep(0.1)
        yield
