"""The reports of a run from its partial tables, and its figures for the ledger."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime

from tasks.cleaning.counts import load_counts
from tasks.cleaning.partials import AUTHOR_DAYS, WORD_HISTOGRAM, to_micros
from tasks.cleaning.pieces import PartialTable
from tasks.cleaning.units import USER_INDEX
from tasks.cleaning.user_index import loaded_index
from tasks.contracts import REPORTS, TABLES, USER_STATISTICS
from tasks.reports import BUILDERS, ReportFacts
from tasks.reports.figures import RuleCounts, RunCounts, TableCounts
from tasks.workspace import Workspace


def build_reports(workspace: Workspace, *, as_of: datetime) -> None:
    """Write the spool reports/<name> of every report, one file each. After clean_users and clean_posts."""
    facts = load_facts(workspace, as_of)
    for report in REPORTS:
        batches = BUILDERS[report.name](facts).combine_chunks().to_batches()
        workspace.report(report).write(0, batches)


def load_facts(workspace: Workspace, as_of: datetime) -> ReportFacts:
    """What the reports are made of; ValueError when the posts were reduced for another as_of."""
    counts = {table.name: load_counts(workspace, table.name) for table in TABLES}
    if counts["posts"].in_scope.as_of != to_micros(as_of):
        raise ValueError("the posts were reduced for another as_of")
    return ReportFacts(
        as_of=to_micros(as_of),
        users=loaded_index(workspace.partials / USER_INDEX),
        author_days=PartialTable(workspace, AUTHOR_DAYS),
        histogram=PartialTable(workspace, WORD_HISTOGRAM).whole(),
        counts=counts,
    )


def run_counts(workspace: Workspace) -> RunCounts:
    """The figures of a run for the ledger; the next run's guard compares with them."""
    counts = {table.name: load_counts(workspace, table.name) for table in TABLES}
    headline = workspace.report(USER_STATISTICS).table().drop_columns("as_of").to_pylist()[0]
    headline["users_after_as_of"] = counts["users"].kept - int(headline["total_users"] or 0)
    headline["posts_after_as_of"] = counts["posts"].in_scope.after_as_of
    return RunCounts(
        tables={n: TableCounts(read=of.read, kept=of.kept, rejected=of.rejected) for n, of in counts.items()},
        rules=tuple(
            RuleCounts(table=name, share=rule.share, **asdict(rule)) for name, of in counts.items() for rule in of.rules
        ),
        headline=headline,
        columns=workspace.columns(),
    )
