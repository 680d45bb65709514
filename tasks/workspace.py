"""The run's own folder: where a run keeps its batches between stages, so that no stage holds a whole table.

It holds personal data: mode 0700, its free space is checked first, and it goes when the run ends. Each project has a
folder of its own below ETL_DATA_DIR/runs, and a run holds a lock on its folder: nobody removes what is in use, and what
nobody holds belongs to a run that died.
"""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pyarrow as pa
from filelock import FileLock, Timeout
from humanize import naturalsize
from pyarrow.dataset import dataset
from pydantic import TypeAdapter

from tasks.contracts import REJECT_SCHEMA, Report, Table
from tasks.errors import ConfigurationError, TerminalError
from tasks.platform.whole_file import whole_file

MINIMUM_FREE_BYTES = 256 * 2**20
LOCK = ".lock"
DISK_REMEDY = "Free some space, give this account the folder, or point ETL_DATA_DIR elsewhere; then start again."
_FULL = (errno.ENOSPC, errno.EDQUOT)
_DISK_PROBLEMS = {
    errno.ENOSPC: "is full",
    errno.EDQUOT: "is full for this account",
    errno.EROFS: "is on a read-only disk",
    errno.EACCES: "cannot be written by this account",
    errno.EPERM: "cannot be written by this account",
    errno.ENOTDIR: "cannot be made: a file is where a folder should be",
    errno.EEXIST: "is a file, and a folder should be there",
    errno.EIO: "cannot be written: the disk reports an error",
}
_COLUMNS = TypeAdapter(dict[str, dict[str, float]])
_IPC = pa.ipc.IpcWriteOptions(compression="lz4")


@dataclass(frozen=True, slots=True)
class Spool:
    """A folder of Arrow files of one schema, `NNNNN.arrow`; in the order of their numbers the rows are in key order.

    A file appears under its name only when it is complete, so whatever is listed is whole. An empty table has a folder
    without files; a folder that is missing is not an empty table, and reading it is an error.
    """

    folder: Path
    schema: pa.Schema

    def path(self, index: int) -> Path:
        return self.folder / f"{index:05d}.arrow"

    def write(self, index: int, batches: Iterable[pa.RecordBatch]) -> int:
        """Write one file whole, and only then give it its name. Returns its rows."""
        self.folder.mkdir(parents=True, exist_ok=True)
        rows = 0
        with (
            whole_file(self.path(index)) as part,
            pa.OSFile(str(part), "wb") as sink,
            pa.ipc.new_file(sink, self.schema, options=_IPC) as writer,
        ):
            for batch in batches:
                writer.write_batch(batch)
                rows += batch.num_rows
        return rows

    def files(self) -> list[Path]:
        """All files, in order. TerminalError when the folder is missing."""
        if not self.folder.is_dir():
            name = f"{self.folder.parent.name}/{self.folder.name}"
            raise TerminalError(
                f"The rows of {name} are missing in the run's folder: it was removed, or never written.",
                remedy="Start the run again, and see what else removes files below ETL_DATA_DIR.",
            )
        return sorted(self.folder.glob("*.arrow"), key=lambda path: int(path.stem))

    def batches(self, columns: Sequence[str] = ()) -> Iterator[pa.RecordBatch]:
        """All rows in key order, a batch at a time; or these columns of them, in the order of the schema."""
        for path in self.files():
            yield from read_batches(path, fields=[self.schema.get_field_index(name) for name in columns])

    def batch_refs(self) -> Iterator[BatchRef]:
        """Where each of the batches lies, in key order: to read them as often, and as much of them, as it takes."""
        for path in self.files():
            with pa.OSFile(str(path), "rb") as source, pa.ipc.open_file(source) as reader:
                yield from (BatchRef(path, index, self.schema) for index in range(reader.num_record_batches))

    def rows(self) -> int:
        """How many, from the files' metadata: no batch is decompressed. TerminalError as `files`."""
        files = [str(path) for path in self.files()]
        return int(dataset(files, schema=self.schema, format="ipc").count_rows()) if files else 0

    def table(self) -> pa.Table:
        """Everything at once: for tables that are small by definition only."""
        return pa.Table.from_batches(self.batches(), schema=self.schema)

    def clear(self) -> None:
        """Leave the folder there, without files."""
        self.remove()
        self.folder.mkdir(parents=True)

    def remove(self) -> None:
        """Free what it takes on the disk."""
        shutil.rmtree(self.folder, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class BatchRef:
    """One batch of a spool's file."""

    path: Path
    index: int
    schema: pa.Schema

    def read(self, columns: Sequence[str] = ()) -> pa.RecordBatch:
        """The batch, or these columns of it: the others are not read from the disk."""
        options = pa.ipc.IpcReadOptions(included_fields=[self.schema.get_field_index(name) for name in columns])
        with pa.OSFile(str(self.path), "rb") as source, pa.ipc.open_file(source, options=options) as reader:
            return reader.get_batch(self.index)


def read_batches(path: Path, *, fields: Sequence[int] = ()) -> Iterator[pa.RecordBatch]:
    """The record batches of one Arrow file, read one at a time. fields: to read, by number; all when empty."""
    options = pa.ipc.IpcReadOptions(included_fields=list(fields))
    with pa.OSFile(str(path), "rb") as source, pa.ipc.open_file(source, options=options) as reader:
        for index in range(reader.num_record_batches):
            yield reader.get_batch(index)


def write_table(path: Path, table: pa.Table) -> None:
    """A table that is held whole, as one Arrow file that is not packed."""
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


def read_table(path: Path) -> pa.Table:
    with pa.OSFile(str(path), "rb") as source, pa.ipc.open_file(source) as reader:
        return reader.read_all()


@dataclass(frozen=True, slots=True)
class Workspace:
    """The folder of one run: `run.json`, spools by stage (raw, clean, …), and under files/ what is published."""

    root: Path

    @classmethod
    def create(cls, data_dir: Path, run_id: str, *, project: str = "") -> Workspace:
        """Make the folder of a new run; ConfigurationError when it cannot be made or the disk is nearly full."""
        runs = data_dir / "runs" / project
        try:
            runs.mkdir(parents=True, exist_ok=True, mode=0o700)
            require_free(runs, MINIMUM_FREE_BYTES)
            root = runs / run_id
            root.mkdir(mode=0o700)
        except OSError as error:
            raise ConfigurationError(
                f"The run's folder cannot be made: {disk_problem(error) or f'{runs}: {error.strerror}'}. "
                "Nothing was read.",
                remedy=DISK_REMEDY,
            ) from None
        return cls(root)

    @contextmanager
    def held(self) -> Iterator[bool]:
        """Hold the folder's lock, which ends with this process at the latest. False when another process holds it."""
        lock = FileLock(self.root / LOCK, timeout=0, thread_local=False)
        try:
            lock.acquire()
        except (Timeout, PermissionError):  # in use, or another account's
            yield False
            return
        try:
            yield True
        finally:
            lock.release()

    @property
    def run_id(self) -> str:
        return self.root.name

    def spool(self, stage: str, table: str, schema: pa.Schema) -> Spool:
        return Spool(self.root / stage / table, schema)

    def raw(self, table: Table) -> Spool:
        """Rows as a transport delivers them."""
        return self.spool("raw", table.name, table.raw_schema)

    def clean(self, table: Table) -> Spool:
        """Rows that the rules have left, as the cleaned table holds them."""
        return self.spool("clean", table.name, table.clean_schema)

    def rejects(self, table: Table) -> Spool:
        """What is kept of rows that a rule rejected."""
        return self.spool("rejects", table.name, REJECT_SCHEMA)

    def report(self, report: Report) -> Spool:
        """Where a report waits to be published."""
        return self.spool("reports", report.name, report.schema)

    @property
    def files(self) -> Path:
        """What will be published, laid out as it will be in Storage."""
        return self.root / "files"

    @property
    def partials(self) -> Path:
        folder = self.root / "partials"
        folder.mkdir(exist_ok=True)
        return folder

    def note(self, **facts: object) -> None:
        """Add facts to run.json, atomically: what a resumed run needs to know of this one."""
        path = self.root / "run.json"
        text = json.dumps({**self.facts(), **facts}, default=datetime.isoformat, indent=1)
        with whole_file(path) as part:
            part.write_text(text)

    def facts(self) -> dict[str, object]:
        path = self.root / "run.json"
        return dict(json.loads(path.read_text())) if path.exists() else {}

    def columns(self) -> dict[str, dict[str, float]]:
        """Of each table that was read whole, the non-null share of each column that the source has."""
        return _COLUMNS.validate_python(self.facts().get("columns", {}))

    def remove(self) -> None:
        shutil.rmtree(self.root, ignore_errors=True)


def remove_unheld(runs: Path, *, prefix: str = "", but: Path | None = None) -> None:
    """Remove the folders of runs that no process holds: they hold personal data, and nothing will use them again."""
    for root in runs.iterdir() if runs.is_dir() else ():
        if root == but or not root.is_dir() or not root.name.startswith(prefix):
            continue
        with Workspace(root).held() as free:
            if free:
                shutil.rmtree(root, ignore_errors=True)


def disk_problem(error: BaseException) -> str:
    """What of the disk, or of the rights on it, an error is about; empty when it is about something else."""
    if not isinstance(error, OSError) or error.errno not in _DISK_PROBLEMS:
        return ""
    said = _DISK_PROBLEMS[error.errno]
    if error.errno in _FULL:
        return f"the disk of {error.filename or 'ETL_DATA_DIR'} {said}"
    return f"{error.filename} {said}" if error.filename else ""  # without one it may be of a connection


def require_free(folder: Path, needed: int) -> None:
    """ConfigurationError when the disk under `folder` has fewer than `needed` bytes free."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise ConfigurationError(
            f"The disk of ETL_DATA_DIR has {naturalsize(free, binary=True)} free; this run needs about "
            f"{naturalsize(needed, binary=True)}.",
            remedy="Free some space or point ETL_DATA_DIR elsewhere. Nothing was written.",
        )
