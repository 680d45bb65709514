"""Whether a run may be published: reports within their contracts, and metrics within their bounds.

A metric is held by name. Whoever looked at it starts the run again and accepts it by that name; that lets pass what was
seen then, with a little room for the rows of the meantime, and nothing beyond.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from tasks.cleaning.counts import load_counts
from tasks.cleaning.rules import RULES
from tasks.contracts import REPORTS, TABLES
from tasks.errors import ChoiceError, RunHeld
from tasks.reports.checks import check_contract, check_totals
from tasks.reports.figures import RunCounts
from tasks.settings import Settings
from tasks.sink.model import TablePlan
from tasks.workspace import Workspace

# How far beyond the value that was seen an accepted metric may be: sources change between a hold and the next start.
ROOM = 1.1


@dataclass(frozen=True, slots=True)
class Drift:
    """A metric outside its bounds: the name that accepts it, its value, and by how much, in words.

    value: the share of rows that went or are to be deleted, or the points that a rule's share rose.
    """

    name: str
    value: float
    message: str


def metric_names() -> list[str]:
    """Every name that can hold a run, and so be accepted."""
    names = [f"{table.name}_{what}" for table in TABLES for what in ("drop", "deletes")]
    columns = [f"{table}.{column}" for table, declared in _declared_columns().items() for column in declared]
    names += [f"{what}:{column}" for what in ("column_gone", "column_filled") for column in columns]
    return names + [f"rule_share:{table}.{rule.name}" for table, rules in RULES.items() for rule in rules]


def _declared_columns() -> dict[str, list[str]]:
    return {table.name: [column.name for column in table.source_columns] for table in TABLES}


_NAMES = (
    f"There are {', '.join(f'{table.name}_drop, {table.name}_deletes' for table in TABLES)}, column_gone:TABLE.COLUMN, "
    "column_filled:TABLE.COLUMN and rule_share:TABLE.RULE; the message and page of a held run name those that held it."
)


def require_known(accept: Iterable[str]) -> None:
    """ChoiceError for a name that no metric has: it would be accepted in vain."""
    known = metric_names()
    for name in sorted(set(accept) - set(known)):
        close = get_close_matches(name, known, n=1)
        raise ChoiceError(
            f"No metric is called {name[:100]!r}, so it cannot be accepted. Nothing was read.",
            remedy=(f"Did you mean {close[0]}? " if close else "") + _NAMES,
        )


def check_run(
    workspace: Workspace,
    counts: RunCounts,
    *,
    plan: Mapping[str, TablePlan],
    last: RunCounts | None,
    settings: Settings,
    accepted: Mapping[str, float] | None = None,
    asked: Collection[str] = (),
    dry_run: bool = False,
) -> None:
    """ConfigurationError for reports out of contract, RunHeld for metrics outside their bounds and not accepted.

    counts: the figures of this run; last: those of the last committed one. plan: by table, what would be deleted of how
    many rows.
    accepted: the metrics that somebody accepts, with the value that each had when the run was held. asked: the names
    that were given. dry_run: nobody can accept what this run sees, which the ledger does not have.
    """
    reports = {report.name: workspace.report(report).table() for report in REPORTS}
    for report in REPORTS:
        check_contract(report, reports[report.name])
    check_totals(reports, {table.name: load_counts(workspace, table.name) for table in TABLES})
    drifts = find_drift(counts, plan=plan, last=last, settings=settings)
    if any(not _is_accepted(drift, accepted or {}) for drift in drifts):
        raise _held(drifts, accepted or {}, asked, dry_run)


def _is_accepted(drift: Drift, accepted: Mapping[str, float]) -> bool:
    return drift.name in accepted and drift.value <= ROOM * accepted[drift.name]


def _held(drifts: list[Drift], accepted: Mapping[str, float], asked: Collection[str], dry_run: bool) -> RunHeld:
    """The names to accept are all that are outside their bounds, also those that were accepted this time."""
    held = [drift for drift in drifts if not _is_accepted(drift, accepted)]
    more = " and ".join(drift.name for drift in held if drift.name in accepted)
    beyond = f" {more}: further than what was accepted." if more else ""
    early = " and ".join(drift.name for drift in held if drift.name in asked and drift.name not in accepted)
    unseen = f" {early}: the last run was not held by this, so there was nothing to accept." if early else ""
    return RunHeld(
        "Held: " + "; ".join(f"{drift.name}: {drift.message}" for drift in held) + f".{beyond}{unseen}",
        remedy=f"Nothing was published or written. {_how_to_accept(drifts, dry_run)}",
        values={d.name: accepted[d.name] if _is_accepted(d, accepted) else d.value for d in drifts},
    )


def _how_to_accept(drifts: list[Drift], dry_run: bool) -> str:
    if dry_run:
        return (
            "A dry run leaves nothing that could be accepted: without it the run is held, too, and says how to go on."
        )
    names = " ".join(f"--accept {drift.name}" for drift in drifts)
    return f"If this is right, start it again with {names}; that accepts what this run saw, and nothing beyond it."


def find_drift(
    counts: RunCounts, *, plan: Mapping[str, TablePlan], last: RunCounts | None, settings: Settings
) -> list[Drift]:
    """Every metric outside its bounds. counts: the figures of this run; last: those of the one before."""
    drifts = list(_deletes(plan, settings))
    if last:
        drifts += _drops(counts, last, settings)
        drifts += _rules(counts, last, settings)
        drifts += _columns(counts, last, settings)
    return drifts


def _columns(now: RunCounts, before: RunCounts, settings: Settings) -> Iterator[Drift]:
    """Columns that vanished from the source, or are filled in far fewer rows: what is read as null would be written.

    A column that the contract names no more is not missed: nothing is written of it.
    """
    for table, declared in _declared_columns().items():
        found, counts = now.columns.get(table), now.tables.get(table)
        if found is None or counts is None or not counts.read:
            continue
        for column, was in before.columns.get(table, {}).items():
            if column not in declared:
                continue
            share = found.get(column)
            if share is None:
                yield Drift(
                    f"column_gone:{table}.{column}", was, f"the source of {table} has no column {column} any more"
                )
                continue
            lost = was - share
            many = lost * counts.read > settings.drift_floor_rows and lost > settings.max_drop_share * was
            if many or share == 0 < was:
                yield Drift(
                    f"column_filled:{table}.{column}",
                    lost,
                    f"filled in {share:.1%} of the rows, after {was:.1%} in the last run "
                    f"(bound {settings.max_drop_share:.0%} fewer)",
                )


def _drops(now: RunCounts, before: RunCounts, settings: Settings) -> Iterator[Drift]:
    for table, of in now.tables.items():
        kept, kept_before = of.kept, before.tables[table].kept if table in before.tables else 0
        fewer, all_gone = kept_before - kept, kept == 0 < kept_before
        if all_gone or (fewer > settings.drift_floor_rows and fewer > settings.max_drop_share * kept_before):
            yield Drift(
                f"{table}_drop",
                fewer / kept_before,
                f"{kept:,} {table} kept, {fewer / kept_before:.1%} fewer than the {kept_before:,} of the last run "
                f"(bound {settings.max_drop_share:.0%})",
            )


def _deletes(plan: Mapping[str, TablePlan], settings: Settings) -> Iterator[Drift]:
    for table, planned in plan.items():
        deletes, rows = planned.deletes, planned.target_rows
        many = deletes > settings.drift_floor_rows and deletes > settings.max_delete_share * rows
        if many or 0 < deletes == rows:
            yield Drift(
                f"{table}_deletes",
                deletes / max(rows, 1),
                f"{deletes:,} of {rows:,} rows of clean_{table} would be deleted, {deletes / max(rows, 1):.1%} "
                f"(bound {settings.max_delete_share:.0%})",
            )


def _rules(now: RunCounts, before: RunCounts, settings: Settings) -> Iterator[Drift]:
    shares = before.shares
    for rule in now.rules:
        was, share = shares.get((rule.table, rule.rule)), rule.share
        if was is None or share is None:
            continue  # a rule that is new, or that saw no rows, has nothing to be compared with
        more, points = rule.affected - was * rule.checked, (share - was) * 100
        if more > settings.drift_floor_rows and points > settings.max_rule_points:
            yield Drift(
                f"rule_share:{rule.table}.{rule.rule}",
                points,
                f"{share:.1%} of the rows, {points:.1f} points more than the {was:.1%} of the last run "
                f"(bound {settings.max_rule_points:g} points)",
            )
