"""Runs as pages show them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from fastapi import Request

from api.ledger import LedgerRun
from api.prefect import Prefect
from api.site.formats import NONE, ago, day, duration, instant, whole
from api.tokens import Caller
from tasks.files.layout import day_of

CHOICES = 100


def run_views(rows: Sequence[LedgerRun], prefect: Prefect, current: LedgerRun | None) -> list[dict[str, Any]]:
    """Runs of the ledger in words, with links to the pages that Prefect still has of them."""
    pages = prefect.pages([row.flow_run_id for row in rows])
    return [{**_run_view(row, current), "page": pages.get(row.flow_run_id)} for row in rows]


def _run_view(row: LedgerRun, current: LedgerRun | None) -> dict[str, Any]:
    started, finished, as_of = (at and _utc(at) for at in (row.started_at, row.finished_at, row.as_of))
    stages = [{"title": name, "seconds": seconds, "text": duration(seconds)} for name, seconds in row.seconds.items()]
    return {
        "id": row.run_id,
        "status": row.status,
        "stage": row.stage,
        "kind": row.kind,
        "historical": bool(row.historical),
        "is_current": current is not None and current.run_id == row.run_id,
        "is_readable": row.status == "committed" and row.kind == "run",  # a restore has no files of its own
        "started": instant(started) if started else row.name or row.run_id,
        "ago": ago(started) if started else "not started yet",
        "as_of": instant(as_of) if as_of else NONE,
        "took": duration((finished - started).total_seconds()) if started and finished else NONE,
        "users": whole(_kept(row, "users")),
        "posts": whole(_kept(row, "posts")),
        "transport": row.transport or NONE,
        "version": row.code_version,
        "error": row.error,
        "stages": stages,
        "longest": max(row.seconds.values(), default=1.0) or 1.0,
    }


def choices(request: Request, caller: Caller) -> list[dict[str, str]]:
    """The newest committed runs whose files are still there, and days of older ones, newest first, to choose from."""
    rows, _ = request.app.state.ledger.page(caller, status="committed", limit=CHOICES)
    days = request.app.state.store.days(caller)
    runs = {
        row.run_id: (day_of(row.as_of), _choice(row, row.as_of, row.started_at))
        for row in rows
        if row.as_of and row.started_at and day_of(row.as_of) in days and row.kind == "run"
    }
    shown = {of for of, _ in runs.values()}
    return [*(choice for _, choice in runs.values()), *(_choice_of_day(one) for one in days if one not in shown)]


def _choice_of_day(text: str) -> dict[str, str]:
    short = day(datetime.fromisoformat(text).date())
    return {"id": text, "short": short, "label": f"{short}, the last run of that day"}


def run_before(runs: Sequence[str], run: str) -> str:
    """What a run is compared with unless somebody says: the one before it, of the oldest the one after."""
    at = runs.index(run) + 1 if run in runs else 0
    return runs[at] if at < len(runs) else runs[-2]


def _choice(row: LedgerRun, as_of: datetime, started: datetime) -> dict[str, str]:
    as_of, started = _utc(as_of), _utc(started)
    through = day(datetime.fromisoformat(day_of(as_of)).date())
    hours = "" if as_of.time().isoformat() == "00:00:00" else f" until {as_of:%H:%M}"
    word = ", historical" if row.historical else ""
    short = f"{through}{hours}"
    return {"id": row.run_id, "short": short, "label": f"{short}{word}, run {day(started.date())} {started:%H:%M}"}


def _kept(row: LedgerRun, table: str) -> int | None:
    counts = row.counts.tables.get(table)
    return counts.kept if counts else None


def _utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC)
