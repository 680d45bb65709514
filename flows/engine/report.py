"""What a run shows on its page when it is over."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from flows.engine import run_page
from flows.engine.outcome import RunOutcome
from tasks.publish.upload import signed_links
from tasks.settings import Settings, load_settings

_DAY = 86_400


def show_outcome(outcome: RunOutcome) -> None:
    """The artifacts of a run that ended well: summary, statistics, cleaning, traffic, and what was published."""
    last = outcome.last or {}
    run_page.summary(
        status=outcome.status,
        as_of=outcome.as_of,
        run_id=outcome.run_id,
        transport=outcome.transport,
        headline=outcome.headline,
        last=last.get("headline"),
        tables=outcome.tables,
        seconds=outcome.seconds,
        notes=[*outcome.notes, *outcome.identity],
    )
    run_page.statistics(outcome.headline, last.get("headline"))
    run_page.cleaning(outcome.quality, _shares(last))
    run_page.samples(outcome.samples)
    run_page.traffic(outcome.stages)
    if outcome.run_path:
        _show_files(load_settings(), outcome)


def _shares(last: Mapping[str, Any]) -> dict[tuple[str, str], float | None]:
    return {(rule["table"], rule["rule"]): rule["share"] for rule in last.get("rules", [])}


def _show_files(settings: Settings, outcome: RunOutcome) -> None:
    """Signed links to every file, and the charts as images; personal columns are in none of them."""
    paths = {entry.path: f"{outcome.run_path}/{entry.path}" for entry in outcome.files}
    links = signed_links(settings, list(paths.values()))
    entries = [
        {"path": entry.path, "rows": entry.rows, "bytes": entry.bytes, "link": links.get(paths[entry.path])}
        for entry in outcome.files
    ]
    run_page.files(entries, path=str(outcome.run_path), days=settings.signed_link_seconds / _DAY)
    charts = [entry.path for entry in outcome.files if entry.kind == "chart" and paths[entry.path] in links]
    run_page.charts({PurePosixPath(path).stem: links[paths[path]] for path in charts})
