"""A file of a table on its way through its rules: batches in, cleaned batches, rejects, counts and samples out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Self

import pyarrow as pa

from tasks.cleaning.counts import CleanCounts, RuleCount, Scope, save_counts
from tasks.cleaning.rules.base import Facts, Flag, Frame, Rule, Step, run_rules
from tasks.cleaning.samples import SAMPLES, Sample, save_samples, take_samples
from tasks.contracts import REJECT_SCHEMA, Table
from tasks.errors import ConfigurationError
from tasks.platform.workers import Tick
from tasks.workspace import Workspace


@dataclass
class Counted:
    """What a unit of cleaning counted, with samples by rule. Units add up, in their order."""

    read: int = 0
    kept: int = 0
    checked: dict[str, int] = field(default_factory=dict)
    affected: dict[str, int] = field(default_factory=dict)
    samples: dict[str, list[Sample]] = field(default_factory=dict)

    def add(self, other: Self) -> None:
        """Add what a later unit counted; of the samples the first ones stay."""
        self.read, self.kept = self.read + other.read, self.kept + other.kept
        for mine, theirs in ((self.checked, other.checked), (self.affected, other.affected)):
            for rule, rows in theirs.items():
                mine[rule] = mine.get(rule, 0) + rows
        for rule, samples in other.samples.items():
            have = self.samples.setdefault(rule, [])
            have.extend(samples[: SAMPLES - len(have)])

    def of_table(self, table: Table, rules: Sequence[Rule]) -> CleanCounts:
        """The counts of the whole table, once all of its units are added."""
        counts = (RuleCount(r.name, r.action, self.checked.get(r.name, 0), self.affected.get(r.name, 0)) for r in rules)
        return CleanCounts(table.name, self.read, self.kept, self.read - self.kept, tuple(counts))


@dataclass
class CleaningPass:
    """The rules of one pass over the batches of one unit. whole_table: of the second pass, or else of the first."""

    table: Table
    rules: tuple[Rule, ...]
    facts: Facts
    tick: Tick
    is_first: bool = True
    is_last: bool = True
    counted: Counted = field(default_factory=Counted)
    rejected: list[pa.Table] = field(default_factory=list)

    def run(self, frame: Frame) -> Frame:
        """The rules over one batch; what they reject goes to the rejects."""
        if self.is_first:
            self.counted.read += frame.num_rows
            self.tick(frame.num_rows)
        frame, rejects = run_rules(frame, self.rules, self.facts, witness=self._witness)
        if rejects is not None:
            self.rejected.append(rejects)
        if self.is_last:
            self.counted.kept += frame.num_rows
        return frame

    def _witness(self, step: Step) -> None:
        name, counted = step.rule.name, self.counted
        affected = int(step.affected.sum())
        counted.checked[name] = counted.checked.get(name, 0) + step.before.num_rows
        counted.affected[name] = counted.affected.get(name, 0) + affected
        have = counted.samples.setdefault(name, [])
        if affected and len(have) < SAMPLES:
            have.extend(take_samples(step, self.table))

    def write_rejects(self, workspace: Workspace, index: int) -> None:
        """The unit's rejects as one file of the spool, under the unit's number; none when nothing was rejected."""
        if self.rejected:
            rows = pa.concat_tables(self.rejected).combine_chunks().cast(REJECT_SCHEMA)
            workspace.rejects(self.table).write(index, rows.to_batches())


def keep_counts(
    workspace: Workspace, table: Table, rules: Sequence[Rule], counted: Counted, scope: Scope | None = None
) -> CleanCounts:
    """Keep the counts and the samples of a table, and return the counts."""
    counts = replace(counted.of_table(table, rules), scope=scope)
    save_counts(workspace, counts)
    save_samples(workspace, table.name, {rule.name: counted.samples.get(rule.name, []) for rule in rules})
    return counts


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
