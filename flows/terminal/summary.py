"""What a command says of a run that ended well: who sees it, its day, its rows and figures, and how to read it.

On a terminal it is a panel; elsewhere the same as plain lines. The stages and their times stand above it already.
"""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from flows.engine.outcome import RunOutcome
from flows.engine.report_page import day_sentence, mode_sentence, status_sentence, transport_name
from flows.engine.run_page import LABELS, change, number, size
from flows.terminal.display import seconds_text
from tasks.reports.figures import PastRun

HEADLINE = {**LABELS, "posts_per_author_median": "posts per author, median"}
COUNTS = {
    "read": "read",
    "kept": "kept",
    "rejected": "rejected",
    "inserts": "to insert",
    "updates": "to update",
    "deletes": "to delete",
    "inserted": "new",
    "updated": "changed",
    "unchanged": "same",
    "deleted": "gone",
    "refused": "refused",
}
LATEST_PAGE = "artifacts/key/latest-report"
_PIPE_COLUMNS = 120


def show(outcome: RunOutcome, console: Console | None = None) -> None:
    """Print it."""
    console = console or terminal()
    title = status_sentence(outcome).replace("`", "")
    parts = [part for section in _sections(outcome) for part in (Text(), section)]
    if console.is_terminal:
        style = "green" if outcome.current else "yellow"
        body = Group(*parts[1:])
        console.print(Panel(body, title=title, title_align="left", padding=(1, 2), expand=False, border_style=style))
    else:
        console.print(Text(f"{title}."), *parts, sep="\n")


def terminal() -> Console:
    """Stdout: as wide as the terminal is, else wide enough for every table."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=_PIPE_COLUMNS)


def _project_name(url: str) -> str:
    """How a person calls the project at this address."""
    host = urlsplit(url).hostname or url
    return "the local stack" if host in ("127.0.0.1", "localhost", "::1") else host


def _sections(outcome: RunOutcome) -> Iterable[RenderableType]:
    yield Text(_plain(f"{day_sentence(outcome)} {mode_sentence(outcome)}"))
    if outcome.notes:
        yield Group(*(Text(f"! {note}", style="yellow") for note in outcome.notes))
    yield _rows(outcome)
    yield _figures(outcome)
    yield Text(_cost(outcome), style="dim")
    yield Text(_where(outcome))


def _rows(outcome: RunOutcome) -> Table:
    table = _table("rows")
    used = [name for name in COUNTS if any(name in counts for counts in outcome.tables.values())]
    for name in used:
        table.add_column(COUNTS[name], justify="right", no_wrap=True)
    for name, counts in outcome.tables.items():
        table.add_row(name, *(number(counts.get(count)) for count in used))
    return table


def _figures(outcome: RunOutcome) -> Table:
    before = previous(outcome)
    table = _table("figures", no_wrap=False)  # in a narrow terminal words wrap, figures stay whole
    table.add_column("now", justify="right", no_wrap=True)
    if before:
        table.add_column(f"since the run as of {before.as_of:%Y-%m-%d %H:%M}", justify="right")
    figures = before.headline if before else {}
    for name, label in HEADLINE.items():
        now = outcome.headline.get(name)
        table.add_row(label, number(now), *([change(now, figures.get(name))] if before else []))
    return table


def previous(outcome: RunOutcome) -> PastRun | None:
    """The committed run before this one, when it is as of an earlier instant: nothing is compared with the future."""
    committed = (run for run in outcome.history if run.run_id != outcome.run_id and run.event != "held")
    last = next(committed, None)
    return last if last and not outcome.historical and last.as_of <= outcome.as_of else None


def _table(first: str, *, no_wrap: bool = True) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(first, no_wrap=no_wrap)
    return table


def _cost(outcome: RunOutcome) -> str:
    received, sent = (int(sum(s.get(way, 0) for s in outcome.stages.values())) for way in ("received", "sent"))
    how = f"{_project_name(outcome.project)} over {transport_name(outcome)}"
    took = f"{seconds_text(outcome.seconds)} in all, {size(received)} received, {size(sent)} sent"
    committed = "" if outcome.status == "dry_run" else ", committed"
    return f"Run {outcome.run_id}{committed}, on {how}: {took}."


def _where(outcome: RunOutcome) -> str:
    if outcome.run_path is None:
        return "Nothing was written. Without --dry-run these figures would be published." + _pages(outcome)
    run = "" if outcome.current else f', run="{outcome.run_id}"'
    return (
        f"Reports: bucket `{outcome.bucket}`, {outcome.run_path}/reports/\n\n"
        "  from tasks.read import read_report\n"
        f'  read_report("daily_activity"{run}).tail()'
    ) + _pages(outcome)


def _pages(outcome: RunOutcome) -> str:
    """The addresses in Prefect, where a server stays: of this run, and of the newest one that readers see."""
    if not outcome.page:
        return ""
    server = outcome.page.partition("/runs/")[0]
    return f"\n\nThe run's page:\n  {outcome.page}\nThe page of the latest run, always:\n  {server}/{LATEST_PAGE}"


def _plain(markdown: str) -> str:
    return markdown.replace("**", "").replace("`", "")
