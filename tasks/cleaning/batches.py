"""A table on its way through its rules: batches of a good size in, cleaned batches, rejects, counts and samples out."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from tasks.cleaning.rules.base import Facts, Flag, Frame, Rule, Step, run_rules
from tasks.cleaning.samples import SAMPLES, Sample, take_samples
from tasks.contracts import Table
from tasks.errors import ConfigurationError
from tasks.workspace import Spool, Workspace, read_batches

REJECT_SCHEMA = pa.schema([(name, pa.string()) for name in ("table", "key", "rule", "column", "came", "expected")])
# Large enough that the fixed cost of a batch does not count, small enough to stay near the processor.
BATCH_ROWS = 20_000
BATCH_BYTES = 16 * 2**20
_REJECT_ROWS = 50_000


@dataclass(frozen=True, slots=True)
class RuleCount:
    """How many rows reached a rule, and how many it rejected, changed or flagged."""

    rule: str
    action: str
    checked: int
    affected: int


@dataclass(frozen=True, slots=True)
class CleanCounts:
    """What cleaning a table came to: read = kept + rejected."""

    table: str
    read: int
    kept: int
    rejected: int
    rules: tuple[RuleCount, ...]


@dataclass
class Stage:
    """One table on its way through its rules: what it reads and writes, counts and samples."""

    workspace: Workspace
    table: Table
    rules: tuple[Rule, ...]
    progress: Callable[[int], None]
    raw: Spool
    clean: Spool
    rejects: Spool
    read: int = 0
    kept: int = 0
    checked: dict[str, int] = field(default_factory=dict)
    affected: dict[str, int] = field(default_factory=dict)
    samples: dict[str, list[Sample]] = field(default_factory=dict)
    _rejected: list[pa.Table] = field(default_factory=list)

    @classmethod
    def begin(
        cls, workspace: Workspace, table: Table, rules: tuple[Rule, ...], progress: Callable[[int], None]
    ) -> Stage:
        stage = cls(
            workspace,
            table,
            rules,
            progress,
            raw=workspace.spool("raw", table.name, table.raw_schema),
            clean=workspace.spool("clean", table.name, table.clean_schema),
            rejects=workspace.spool("rejects", table.name, REJECT_SCHEMA),
        )
        stage.clean.clear()
        stage.rejects.clear()
        return stage

    def each_file(self, source: Spool, target: Spool, step: Callable[[Frame], Frame]) -> None:
        """Run every batch through `step`, file by file, into files of the same numbers."""
        for path in source.files():
            cleaned = (as_schema(step(frame), target.schema) for frame in regroup(read_batches(path)))
            target.write(int(path.stem), cleaned)

    def run(self, frame: Frame, facts: Facts, *, whole_table: bool | None = None) -> Frame:
        """The rules of one pass over one batch; what they reject goes to the rejects."""
        rules = [r for r in self.rules if whole_table is None or is_whole_table(r) == whole_table]
        if not whole_table:
            self.read += frame.num_rows
            self.progress(self.read)
        frame, rejects = run_rules(frame, rules, facts, witness=self._witness)
        if rejects is not None:
            self._rejected.append(rejects)
            self._flush_rejects(_REJECT_ROWS)
        if whole_table is not False:
            self.kept += frame.num_rows
        return frame

    def _witness(self, step: Step) -> None:
        name = step.rule.name
        affected = int(step.affected.sum())
        self.checked[name] = self.checked.get(name, 0) + step.before.num_rows
        self.affected[name] = self.affected.get(name, 0) + affected
        have = self.samples.setdefault(name, [])
        if affected and len(have) < SAMPLES:
            have.extend(take_samples(step, self.table, SAMPLES - len(have)))

    def _flush_rejects(self, at_least: int) -> None:
        if sum(part.num_rows for part in self._rejected) >= max(1, at_least):
            rows = pa.concat_tables(self._rejected).combine_chunks()
            self.rejects.write(len(self.rejects.files()), rows.cast(REJECT_SCHEMA).to_batches())
            self._rejected = []

    def end(self, **more: Any) -> CleanCounts:
        """Write what is still held, the counts and the samples."""
        self._flush_rejects(0)
        rules = tuple(
            RuleCount(r.name, r.action, self.checked.get(r.name, 0), self.affected.get(r.name, 0)) for r in self.rules
        )
        counts = CleanCounts(self.table.name, self.read, self.kept, self.read - self.kept, rules)
        _counts_path(self.workspace, self.table.name).write_text(json.dumps({**asdict(counts), **more}))
        self._save_samples()
        return counts

    def _save_samples(self) -> None:
        path = self.workspace.partials / "samples.json"
        samples = json.loads(path.read_text()) if path.exists() else {}
        samples[self.table.name] = {
            rule.name: [sample.as_json() for sample in self.samples.get(rule.name, [])] for rule in self.rules
        }
        path.write_text(json.dumps(samples, indent=1))


def is_whole_table(rule: Rule) -> bool:
    """Whether a rule needs to have seen its table whole."""
    return isinstance(rule, Flag) and rule.whole_table


def as_schema(frame: Frame, schema: pa.Schema) -> Frame:
    """The columns of a schema, without the working ones; ConfigurationError for a null where it allows none."""
    for required in (f.name for f in schema if not f.nullable):
        if nulls := frame[required].null_count:
            raise ConfigurationError(
                f"Column {required} is null in {nulls:,} cleaned rows, and its contract allows none.",
                remedy="Let the contract allow nulls there, or add a rule that fills or rejects them.",
            )
    return pa.RecordBatch.from_arrays([frame[name] for name in schema.names], schema=schema)


def regroup(batches: Iterable[Frame], *, rows: int = BATCH_ROWS, size: int = BATCH_BYTES) -> Iterator[Frame]:
    """The same rows in the same order in batches of a good size, however they were cut before."""
    held: list[Frame] = []
    held_rows = held_bytes = 0
    for batch in batches:
        for start in range(0, batch.num_rows, rows):
            piece = batch.slice(start, rows)
            held.append(piece)
            held_rows, held_bytes = held_rows + piece.num_rows, held_bytes + piece.nbytes
            if held_rows >= rows or held_bytes >= size:
                yield pa.concat_batches(held)
                held, held_rows, held_bytes = [], 0, 0
    if held:
        yield pa.concat_batches(held)


def load_counts(workspace: Workspace, table: str) -> dict[str, Any]:
    """What `clean_<table>` counted: read, kept, rejected, rules, and for posts the windows."""
    return dict(json.loads(_counts_path(workspace, table).read_text()))


def _counts_path(workspace: Workspace, table: str) -> Path:
    return workspace.partials / f"counts_{table}.json"
