"""An incremental night from the rows it read to the tables, files and counts that a full night would have."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tasks.arrow.ahead import at_once
from tasks.cleaning.counts import load_counts, save_counts
from tasks.cleaning.rules import RULES
from tasks.cleaning.units import USER_INDEX
from tasks.cleaning.user_index import UserIndex, index_schema, loaded_index
from tasks.contracts import POSTS, TABLES, USERS, Table
from tasks.files.clean import FileShape
from tasks.files.manifest import FileEntry
from tasks.files.parquet import file_schema, to_file_shape
from tasks.files.state import month_of_path
from tasks.incremental.base import Base
from tasks.incremental.counts import table_counts
from tasks.incremental.gather import Gathered, Touched
from tasks.incremental.known import load_known, month_names, months
from tasks.incremental.look_up import LookUp
from tasks.incremental.merge import BATCH_ROWS, Edit, edited, merge_folder
from tasks.incremental.mode import GoFull
from tasks.incremental.partials import MonthPartials
from tasks.incremental.proof import require_proof
from tasks.incremental.store import BaseFiles
from tasks.platform.workers import HERE, Workers
from tasks.settings import Settings
from tasks.workspace import Workspace


@dataclass
class IncrementalNight:
    """What an incremental night knows, from its base to its files. as_of: µs.

    index: of the base's kept users, until it is merged. entries: the files of the cleaned tables and the partial
    tables; those in `copied` are the base's.
    """

    settings: Settings
    workspace: Workspace
    base: Base
    as_of: int
    index: UserIndex | None = None
    gathered: Gathered | None = None
    known: dict[str, pa.Table] = field(default_factory=dict)
    entries: list[FileEntry] = field(default_factory=list)
    copied: set[str] = field(default_factory=set)

    @property
    def files(self) -> BaseFiles:
        return BaseFiles(self.settings, self.base.run_path, self.workspace.root / "base")

    @property
    def root(self) -> Path:
        return self.workspace.files

    def sources(self) -> dict[str, str]:
        """Where in the bucket each file is that is copied, by its path."""
        return {path: f"{self.base.run_path}/{path}" for path in self.copied}

    def touched(self, table: Table) -> Touched:
        if self.gathered is None:
            raise ValueError("nothing was read yet")
        return self.gathered.of(table)

    def base_index(self) -> UserIndex:
        """The base's kept users, from its files."""
        parts = self.files.paths(self._base_entries(USERS))
        rows = [index_schema().empty_table(), *(_index_of(pq.read_table(part)) for part in parts)]
        return UserIndex(pa.concat_tables(rows))

    def keep_raw(self, gathered: Gathered) -> None:
        """The rows that were read, as the raw spools of all tables: cleaning finds them there."""
        self.gathered = gathered
        for touched in gathered.tables:
            spool = self.workspace.raw(touched.table)
            spool.clear()
            spool.write(0, touched.sorted_rows().to_batches(max_chunksize=self.settings.batch_rows))

    def merge_index(self) -> None:
        """The index of all kept users in place of that of the users who were read and cleaned."""
        base = self.index or self.base_index()
        path = self.workspace.partials / USER_INDEX
        read = UserIndex.load(path).table
        rows = edited("id", base.table.to_batches(BATCH_ROWS), Edit(read, self.touched(USERS).keys()))
        UserIndex(pa.Table.from_batches(rows, read.schema)).save(path)
        self.index = None  # 30 MB at 200,000 users

    def not_read(self) -> dict[str, int]:
        """Rows that were not read, and about how many bytes they are, by what a row had at the last full read."""
        row_bytes = self.base.facts.row_bytes if self.base.facts else {}
        left = {t.name: max(0, self.touched(t).changes.source_rows - self.touched(t).rows.num_rows) for t in TABLES}
        nbytes = sum(round(rows * row_bytes.get(name, 0.0)) for name, rows in left.items())
        return {"rows": sum(left.values()), "bytes": nbytes}

    def load_known(self, look_up: LookUp) -> None:
        """What the base stored of the touched rows, and the proof that nothing else differs. GoFull without it."""
        for table in TABLES:
            touched = self.touched(table)
            self.known[table.name] = load_known(look_up, table, sorted(touched.asked))
            require_proof(touched, self.known[table.name])

    def merge(self, look_up: LookUp, *, workers: Workers = HERE) -> None:
        """Files, partial tables and counts, as a full night would make them. workers: for the partial tables."""
        files = self._merge_files()
        pa.default_memory_pool().release_unused()  # what reading and writing files held: the peak of the night is ahead
        index = loaded_index(self.workspace.partials / USER_INDEX)
        partials = MonthPartials(self, index, files[POSTS.name])
        state = partials.make(self._months_touched(), look_up, workers)
        self.entries = [*(entry for of_table in files.values() for entry in of_table), *state]
        self.copied = {entry.path for entry in self.entries if not (self.root / entry.path).exists()}
        self._drop_equal()
        self._save_counts(partials)
        self._verify(index, files)

    def _merge_files(self) -> dict[str, list[FileEntry]]:
        """The files of the cleaned tables, by table, in the order in which a full night writes them."""
        merges = [(table.name, merge) for table in TABLES for merge in self._merges(table)]
        files: dict[str, list[FileEntry]] = {table.name: [] for table in TABLES}
        for (name, _), entries in zip(merges, at_once([merge for _, merge in merges]), strict=True):
            files[name] += entries
        return files

    def _merges(self, table: Table) -> Iterator[Callable[[], list[FileEntry]]]:
        """What makes the files of each folder of a table, in order: those without a touched row stay the base's."""
        base, folder, keys = self._base_entries(table), f"clean/{table.name}", self.touched(table).keys()
        if table.by_month is not None:
            yield from self._merges_of_months(table, base, folder, keys)
        elif len(keys):
            yield partial(self._merge, table, folder, base, Edit(self._put(table), keys))
        else:
            yield partial(list, base)

    def _merges_of_months(
        self, table: Table, base: list[FileEntry], folder: str, keys: pa.Array
    ) -> Iterator[Callable[[], list[FileEntry]]]:
        before, put = self._months_before(table), self._put(table)
        of_put = month_names(put[str(table.by_month)].combine_chunks())
        for month in sorted({*(month_of_path(entry.path) for entry in base), *pc.unique(of_put).to_pylist()}):
            inside = f"{folder}/month={month}"
            parts = [entry for entry in base if entry.path.startswith(f"{inside}/")]
            rows = put.filter(pc.equal(of_put, month))
            drop = keys.filter(pc.is_in(keys, value_set=_union(before.get(month), rows[table.key.name])))
            yield partial(self._merge, table, inside, parts, Edit(rows, drop)) if len(drop) else partial(list, parts)

    def _merge(self, table: Table, folder: str, parts: list[FileEntry], edit: Edit) -> list[FileEntry]:
        always = table.by_month is None  # a month without rows has no file
        return merge_folder(table, parts, edit, self.files, self.root, folder, self._shape, always=always)

    def _base_entries(self, table: Table) -> list[FileEntry]:
        """The base's files of a table, in their order."""
        entries = self.base.entries("clean").values()
        return [entry for entry in entries if entry.path.startswith(f"clean/{table.name}/")]

    def _months_before(self, table: Table) -> dict[str, pa.Array]:
        """By month, the keys of the touched rows that the base's files have in it."""
        known = self.known[table.name]
        of_known = months(known)
        keys = known["key"].combine_chunks().cast(table.raw_schema.field(table.key.name).type)
        found = [m for m in pc.unique(of_known).to_pylist() if m is not None]
        return {month: keys.filter(pc.fill_null(pc.equal(of_known, month), False)) for month in found}

    def _months_touched(self) -> set[str]:
        """Months of posts that a row left, entered or changed in."""
        after = month_names(self._put(POSTS)["created_at"].combine_chunks())
        return {*self._months_before(POSTS), *pc.unique(after).to_pylist()}

    def _put(self, table: Table) -> pa.Table:
        """The rows that were read and kept, in the shape of the files, sorted by key."""
        batches = [to_file_shape(table, batch) for batch in self.workspace.clean(table).batches()]
        return pa.Table.from_batches(batches, schema=file_schema(table)).combine_chunks()

    @property
    def _shape(self) -> FileShape:
        return FileShape.of(self.settings)

    def _drop_equal(self) -> None:
        """Files that were written again and are what they were: copied, like all that nothing touched."""
        base = self.base.entries()
        for entry in self.entries:
            before = base.get(entry.path)
            if entry.path not in self.copied and before is not None and before.sha256 == entry.sha256:
                self.copied.add(entry.path)

    def _save_counts(self, partials: MonthPartials) -> None:
        """The counts of whole tables in place of those of the rows that were read."""
        for table in TABLES:
            now = load_counts(self.workspace, table.name)
            counts = table_counts(table.name, RULES[table.name], self.base.counts, self.known[table.name], now)
            scope = partials.scope if table is POSTS else None
            save_counts(self.workspace, replace(counts, scope=scope))

    def _verify(self, index: UserIndex, files: dict[str, list[FileEntry]]) -> None:
        """GoFull when rows of files, index, counts and source do not agree: better a full night than a wrong one."""
        for table in TABLES:
            counts, touched = load_counts(self.workspace, table.name), self.touched(table)
            rows = sum(entry.rows for entry in files[table.name])
            read = touched.changes.source_rows - len(_there(touched, self.known[table.name])) + touched.rows.num_rows
            if rows != counts.kept or counts.read != read:
                raise GoFull(
                    f"the figures of {table.name} do not agree: {counts.kept:,} kept and {rows:,} in files, "
                    f"{counts.read:,} read and {read:,} at the source"
                )
        if index.size != load_counts(self.workspace, USERS.name).kept:
            raise GoFull("the index of kept users and their count do not agree")


def _there(touched: Touched, known: pa.Table) -> set[str]:
    """Touched keys that were at the source when it was searched: listed as there, or not listed and known."""
    found = touched.changes.fingerprints
    return {k for k, fingerprint in found.items() if fingerprint is not None} | {
        k for k in known["key"].to_pylist() if k not in found
    }


def _union(keys: pa.Array | None, others: pa.ChunkedArray) -> pa.Array:
    rest = others.combine_chunks()
    return rest if keys is None else pa.concat_arrays([keys, rest])


def _index_of(users: pa.Table) -> pa.Table:
    """The rows of the index from those of a cleaned file."""
    rows = users.num_rows
    names = users.schema.names
    status = users["status"] if "status" in names else pa.array(["other"] * rows, pa.string())
    has_email = users["has_email"] if "has_email" in names else pa.array([False] * rows, pa.bool_())
    columns = [users[USERS.key.name], users["created_at"], status, users["duplicate_of"].is_valid(), has_email]
    schema = index_schema()
    return pa.Table.from_arrays([c.cast(f.type) for c, f in zip(columns, schema, strict=True)], schema=schema)
