"""What a rule is, and how a list of rules runs over a batch.

A frame is an Arrow record batch: the columns of the contract, and working columns whose names begin with `_`. Rules
are plain functions of a frame and the facts of the run; they never change what they are given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tasks.arrow.arrays import differs
from tasks.cleaning.user_index import UserIndex
from tasks.contracts import Table

Frame: TypeAlias = pa.RecordBatch
Describe: TypeAlias = Callable[[Frame], tuple[pa.Array, pa.Array, pa.Array]]
MASK = "_mask"
Action = Literal["rejected", "changed", "flagged"]


@dataclass(frozen=True, slots=True)
class Facts:
    """What a rule may know beside its batch.

    latest: µs since the epoch; what was created later has a wrong clock.
    users: the kept users, for the rules of posts. first_of: id of a duplicate → id of the first, once all are known.
    bits: of each rule by name, in the mask of a row: its place among the rules of the table. Empty: no masks are kept.
    """

    table: Table
    latest: int
    users: UserIndex | None = None
    first_of: pa.Table | None = None
    bits: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Change:
    """A rule that puts values right: frame in, frame of the same rows out."""

    name: str
    description: str
    apply: Callable[[Frame, Facts], Frame]
    action: Action = field(default="changed", init=False)


@dataclass(frozen=True, slots=True)
class Flag:
    """A rule that marks rows in `column` (true, or not null) and leaves the rest alone.

    whole_table: it needs to have seen the table whole, so it runs in a second pass.
    """

    name: str
    description: str
    apply: Callable[[Frame, Facts], Frame]
    column: str
    whole_table: bool = False
    action: Action = field(default="flagged", init=False)


@dataclass(frozen=True, slots=True)
class Reject:
    """A rule that takes rows out. `offends` marks them; `describe` gives column, actual value and what was expected."""

    name: str
    description: str
    offends: Callable[[Frame, Facts], pa.Array]
    describe: Describe
    action: Action = field(default="rejected", init=False)


Rule = Change | Flag | Reject


@dataclass(frozen=True, slots=True)
class Step:
    """What one rule did to one batch: rows by their position in `before`; `after` is aligned with it for a change."""

    rule: Rule
    before: Frame
    after: Frame
    affected: npt.NDArray[np.bool_]


def run_rules(
    frame: Frame, rules: Sequence[Rule], facts: Facts, *, witness: Callable[[Step], None]
) -> tuple[Frame, pa.Table | None]:
    """Run the rules in order. Returns the rows that are left and the rejected ones (see `rejected_rows`), or None.

    witness: called with every step, with rows checked and affected: it counts and takes samples.
    """
    rejects: list[pa.Table] = []
    frame = with_column(frame, "_row", pa.array(np.arange(frame.num_rows)))
    if MASK not in frame.schema.names:
        frame = with_column(frame, MASK, pa.array(np.zeros(frame.num_rows, np.int64)))
    for rule in rules:
        step = run_rule(rule, frame, facts)
        witness(step)
        frame = _masked(step, facts)
        if isinstance(rule, Reject) and step.affected.any():
            frame = frame.filter(pa.array(~step.affected))
            rejects.append(rejected_rows(rule, step, facts.table))
    if not rejects:
        return frame, None
    return frame, pa.concat_tables(rejects).sort_by("_row").drop_columns("_row")


def _masked(step: Step, facts: Facts) -> Frame:
    """The rows after a step, with the rule's bit in the mask of those that it affected."""
    if not facts.bits or not step.affected.any():
        return step.after
    bit = np.int64(1 << facts.bits[step.rule.name])
    mask = step.after[MASK].to_numpy() | np.where(step.affected, bit, 0)
    return with_column(step.after, MASK, pa.array(mask))


def run_rule(rule: Rule, frame: Frame, facts: Facts) -> Step:
    """One rule over one batch; a rejecting rule leaves the rows in, for the caller to take out."""
    if isinstance(rule, Reject):
        return Step(rule, frame, frame, as_mask(rule.offends(frame, facts)))
    after = rule.apply(frame, facts)
    if isinstance(rule, Flag):
        flags = after[rule.column]
        return Step(rule, frame, after, as_mask(flags if pa.types.is_boolean(flags.type) else flags.is_valid()))
    return Step(rule, frame, after, changed_rows(frame, after, facts.table))


def changed_rows(before: Frame, after: Frame, table: Table) -> npt.NDArray[np.bool_]:
    """Per row, whether any column of the contract differs."""
    changed = np.zeros(before.num_rows, np.bool_)
    for column in table.source_columns:
        old, new = before[column.name], after[column.name]
        if not _shares_memory(old, new):
            changed |= as_mask(differs(old, new))
    return changed


def rejected_rows(rule: Reject, step: Step, table: Table) -> pa.Table:
    """The offending rows as `etl_rejects` keeps them, and `_row`, their position in the batch."""
    frame = step.before.filter(pa.array(step.affected))
    column, actual, expected = rule.describe(frame)
    key = pc.fill_null(frame[table.key.name].cast(pa.string()), "null")
    texts = [constant(frame, table.name), key, constant(frame, rule.name), column, actual, expected]
    names = ["table", "key", "rule", "column", "came", "expected", "fingerprint", "rule_mask", "_row"]
    return pa.Table.from_arrays([*texts, frame["_fingerprint"], frame[MASK], frame["_row"]], names=names)


def bits_of(rules: Sequence[Rule]) -> dict[str, int]:
    """The bit of each rule in the mask of a row."""
    return {rule.name: place for place, rule in enumerate(rules)}


def with_column(frame: Frame, name: str, values: pa.Array) -> Frame:
    """A frame with one column set or added; the given one stays as it is."""
    index = frame.schema.get_field_index(name)
    if index < 0:
        return frame.append_column(name, values)
    return frame.set_column(index, name, values)


def as_mask(values: pa.Array) -> npt.NDArray[np.bool_]:
    """A boolean array as numpy; null is false."""
    mask: npt.NDArray[np.bool_] = pc.fill_null(values, False).to_numpy(zero_copy_only=False)
    return mask


def constant(frame: Frame, value: str) -> pa.Array:
    """A text for each row of the frame."""
    return pa.array([value] * frame.num_rows, pa.string())


def _shares_memory(one: pa.Array, other: pa.Array) -> bool:
    def addresses(array: pa.Array) -> list[int | None]:
        return [None if buffer is None else buffer.address for buffer in array.buffers()]

    return addresses(one) == addresses(other)
