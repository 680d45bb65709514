"""`data_quality` from the base's counts, less the touched rows as they were, plus as they are now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from tasks.cleaning.counts import CleanCounts, RuleCount
from tasks.cleaning.rules.base import Reject, Rule, bits_of
from tasks.incremental.known import masks
from tasks.reports.figures import RunCounts


def table_counts(table: str, rules: Sequence[Rule], base: RunCounts, known: pa.Table, now: CleanCounts) -> CleanCounts:
    """The counts of a table, as cleaning all of it would give them.

    base: the figures of the base. known: the touched rows as the base stored them. now: the counts of the touched rows
    that were read this night, as cleaning left them.
    """
    before = {rule.rule: rule.affected for rule in base.rules if rule.table == table}
    after = {rule.rule: rule.affected for rule in now.rules}
    gone = _contributions(rules, known)
    affected = {r.name: before[r.name] - gone[r.name] + after[r.name] for r in rules}
    read = base.tables[table].read - known.num_rows + now.read
    rejected = sum(affected[r.name] for r in rules if isinstance(r, Reject))
    return CleanCounts(table, read, read - rejected, rejected, _rule_counts(rules, affected, read))


def _contributions(rules: Sequence[Rule], known: pa.Table) -> dict[str, int]:
    """Per rule, how many of the rows the base counted as affected."""
    bits, mask = bits_of(rules), masks(known).to_numpy(zero_copy_only=False).astype(np.int64)
    rejecting = known["rule"].to_pylist()
    return {
        rule.name: rejecting.count(rule.name)
        if isinstance(rule, Reject)
        else int(np.count_nonzero(mask & (1 << bits[rule.name])))
        for rule in rules
    }


def _rule_counts(rules: Sequence[Rule], affected: Mapping[str, int], read: int) -> tuple[RuleCount, ...]:
    """The rules in their order; each checks what the rules before it left."""
    counts, left = list[RuleCount](), read
    for rule in rules:
        counts.append(RuleCount(rule.name, rule.action, left, affected[rule.name]))
        left -= affected[rule.name] if isinstance(rule, Reject) else 0
    return tuple(counts)
