"""Runs as pages show them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from fastapi import Request

from api.ledger import LedgerRun
from api.prefect import Prefect
from api.site.formats import NONE, ago, day, duration, instant, whole
from api.tokens import Caller
from tasks.files.layout import day_of

CHOICES = 100


def run_view(row: LedgerRun, prefect: Prefect, current: LedgerRun | None) -> dict[str, Any]:
    """A run of the ledger in words."""
    started, finished, as_of = (_moment(row.get(name)) for name in ("started_at", "finished_at", "as_of"))
    counts = (row.get("counts") or {}).get("tables", {})
    stages = [
        {"title": name, "seconds": float(seconds), "text": duration(float(seconds))}
        for name, seconds in (row.get("seconds") or {}).items()
    ]
    return {
        "id": row["run_id"],
        "status": row["status"],
        "stage": row.get("stage"),
        "kind": row.get("kind", "run"),
        "historical": bool(row.get("historical")),
        "is_current": current is not None and current["run_id"] == row["run_id"],
        "is_readable": row["status"] == "committed",
        "started": instant(started) if started else row.get("name") or row["run_id"],
        "ago": ago(started) if started else "not started yet",
        "as_of": instant(as_of) if as_of else NONE,
        "took": duration((finished - started).total_seconds()) if started and finished else NONE,
        "users": whole((counts.get("users") or {}).get("kept")),
        "posts": whole((counts.get("posts") or {}).get("kept")),
        "transport": row.get("transport") or NONE,
        "version": row.get("code_version"),
        "error": row.get("error"),
        "page": prefect.page(row.get("flow_run_id")),
        "stages": stages,
        "longest": max((stage["seconds"] for stage in stages), default=1.0) or 1.0,
    }


def choices(request: Request, caller: Caller) -> list[dict[str, str]]:
    """Committed runs whose files are still there, newest first, for a list to choose from."""
    rows, _ = request.app.state.ledger.page(caller, status="committed", limit=CHOICES)
    days = set(request.app.state.store.days(caller))
    return [_choice(row) for row in rows if row.get("as_of") and day_of(_at(row["as_of"])) in days and _is_run(row)]


def _is_run(row: LedgerRun) -> bool:
    return bool(row.get("kind", "run") == "run")


def _choice(row: LedgerRun) -> dict[str, str]:
    as_of, started = _at(row["as_of"]), _at(row["started_at"])
    through = day(datetime.fromisoformat(day_of(as_of)).date())
    hours = "" if as_of.time().isoformat() == "00:00:00" else f" until {as_of:%H:%M}"
    word = ", historical" if row.get("historical") else ""
    short = f"{through}{hours}"
    return {"id": row["run_id"], "short": short, "label": f"{short}{word}, run {day(started.date())} {started:%H:%M}"}


def _at(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def _moment(text: str | None) -> datetime | None:
    return _at(text) if text else None
