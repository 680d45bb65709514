"""The last look before a run is published: reports in their contracts, totals that agree, and no wild drift.

A figure out of its bounds holds the run until a person accepts it by name. Its names stay the same from night to night:
`users_drop`, `posts_drop`, `users_deletes`, `posts_deletes`, `rule_share:users.invalid_email` …
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tasks.cleaning.passes import load_counts
from tasks.contracts import REPORTS, TABLES
from tasks.errors import RunHeld
from tasks.reports.build import read_report_spool, run_counts
from tasks.reports.checks import check_contract, check_totals
from tasks.settings import Settings
from tasks.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Drift:
    """A figure out of its bounds: the name that accepts it, and by how much, in words."""

    name: str
    message: str


def check_run(
    workspace: Workspace,
    *,
    plan: Mapping[str, Any],
    last: Mapping[str, Any] | None,
    settings: Settings,
    accept: frozenset[str] = frozenset(),
) -> None:
    """ConfigurationError for reports out of contract, RunHeld for figures out of bounds that are not in `accept`.

    plan: per table an object or mapping with `deletes` and `target_rows`. last: `run_counts` of the last committed run.
    """
    reports = {report.name: read_report_spool(workspace, report) for report in REPORTS}
    for report in REPORTS:
        check_contract(report, reports[report.name])
    check_totals(reports, {table.name: load_counts(workspace, table.name) for table in TABLES})
    drifts = find_drift(run_counts(workspace), plan=plan, last=last, settings=settings)
    held = [drift for drift in drifts if drift.name not in accept]
    if held:
        raise RunHeld(
            "Held: " + "; ".join(f"{drift.name}: {drift.message}" for drift in held) + ".",
            remedy="Nothing was published or written. If this is right, start it again with "
            + " ".join(f"--accept {drift.name}" for drift in held)
            + ".",
        )


def find_drift(
    counts: Mapping[str, Any], *, plan: Mapping[str, Any], last: Mapping[str, Any] | None, settings: Settings
) -> list[Drift]:
    """Every figure out of its bounds. counts, last: as `run_counts` gives them."""
    drifts = list(_deletes(plan, settings))
    if last:
        drifts += _drops(counts["tables"], last["tables"], settings)
        drifts += _rules(counts["rules"], last["rules"], settings)
    return drifts


def _drops(now: Mapping[str, Any], before: Mapping[str, Any], settings: Settings) -> Iterator[Drift]:
    for table, of in now.items():
        kept, kept_before = of["kept"], before.get(table, {}).get("kept", 0)
        fewer = kept_before - kept
        if fewer > settings.drift_floor_rows and fewer > settings.max_drop_share * kept_before:
            yield Drift(
                f"{table}_drop",
                f"{kept:,} {table} kept, {fewer / kept_before:.1%} fewer than the {kept_before:,} of the last run "
                f"(bound {settings.max_drop_share:.0%})",
            )


def _deletes(plan: Mapping[str, Any], settings: Settings) -> Iterator[Drift]:
    for table, planned in plan.items():
        deletes, rows = _figure(planned, "deletes"), _figure(planned, "target_rows")
        if deletes > settings.drift_floor_rows and deletes > settings.max_delete_share * rows:
            yield Drift(
                f"{table}_deletes",
                f"{deletes:,} of {rows:,} rows of clean_{table} would be deleted, {deletes / max(rows, 1):.1%} "
                f"(bound {settings.max_delete_share:.0%})",
            )


def _rules(now: list[Mapping[str, Any]], before: list[Mapping[str, Any]], settings: Settings) -> Iterator[Drift]:
    shares = {(rule["table"], rule["rule"]): rule["share"] for rule in before}
    for rule in now:
        was, share = shares.get((rule["table"], rule["rule"])), rule["share"]
        if was is None or share is None:
            continue  # a rule that is new, or that saw no rows, has nothing to be compared with
        more = rule["affected"] - was * rule["checked"]
        if more > settings.drift_floor_rows and (share - was) * 100 > settings.max_rule_points:
            yield Drift(
                f"rule_share:{rule['table']}.{rule['rule']}",
                f"{share:.1%} of the rows, {(share - was) * 100:.1f} points more than the {was:.1%} of the last run "
                f"(bound {settings.max_rule_points:g} points)",
            )


def _figure(planned: Any, name: str) -> int:
    value = planned[name] if isinstance(planned, Mapping) else getattr(planned, name)
    return int(value)
