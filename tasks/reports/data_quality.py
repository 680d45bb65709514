"""What each rule saw and did."""

from __future__ import annotations

import pyarrow as pa

from tasks.contracts import DATA_QUALITY
from tasks.reports.facts import ReportFacts, as_report, share


def data_quality(facts: ReportFacts) -> pa.Table:
    """One row per table and rule in the order of the rules, of all rows read."""
    rows = [(table, rule) for table in facts.counts for rule in facts.counts[table].rules]
    checked = [rule.checked for _, rule in rows]
    affected = [rule.affected for _, rule in rows]
    return as_report(
        DATA_QUALITY,
        {
            "table": [table for table, _ in rows],
            "rule": [rule.rule for _, rule in rows],
            "action": [rule.action for _, rule in rows],
            "rows_checked": checked,
            "rows_affected": affected,
            "share": share(affected, checked),
        },
    )
