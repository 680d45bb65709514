"""The short summary of a run that `make run` ends with."""

from __future__ import annotations

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from flows.engine.outcome import RunOutcome
from flows.engine.run_page import change, number, size

HEADLINE = (
    ("total_users", "users"),
    ("active_users", "active"),
    ("new_users_7d", "new in 7 days"),
    ("posting_users", "have posted"),
    ("total_posts", "posts"),
    ("posts_7d", "in 7 days"),
    ("posts_per_author_median", "posts per author, median"),
)
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


def show(outcome: RunOutcome, project: str, console: Console | None = None) -> None:
    """Print rows by table, the headline figures, time by stage, and how to read a report."""
    console = console or Console()
    status = outcome.status.replace("_", " ")
    title = f"{status} · as of {outcome.as_of:%Y-%m-%d %H:%M} UTC · {project} over {outcome.transport}"
    parts: list[RenderableType] = [
        _rows(outcome),
        Text(),
        _figures(outcome),
        Text(),
        _stages(outcome),
        Text(),
        _where(outcome),
    ]
    notes = [Text(f"! {note}", style="yellow") for note in outcome.notes]
    console.print(Panel(Group(*notes, *parts), title=title, title_align="left", padding=(1, 2), expand=False))


def _rows(outcome: RunOutcome) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("rows")
    used = [name for name in COUNTS if any(name in counts for counts in outcome.tables.values())]
    for name in used:
        table.add_column(COUNTS[name], justify="right", no_wrap=True)
    for name, counts in outcome.tables.items():
        table.add_row(name, *(number(counts.get(count)) for count in used))
    return table


def _figures(outcome: RunOutcome) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("headline")
    table.add_column("now", justify="right")
    table.add_column("since the last run", justify="right")
    before = (outcome.last or {}).get("headline", {})
    for name, label in HEADLINE:
        now = outcome.headline.get(name)
        table.add_row(label, number(now), change(now, before.get(name)))
    return table


def _stages(outcome: RunOutcome) -> Text:
    parts = [f"{title} {stage['seconds']:.1f} s" for title, stage in outcome.stages.items()]
    received = sum(stage.get("received", 0) for stage in outcome.stages.values())
    sent = sum(stage.get("sent", 0) for stage in outcome.stages.values())
    total = f"{outcome.seconds:.1f} s in all, {size(int(received))} read and {size(int(sent))} written over HTTP"
    return Text(" · ".join(parts) + f"\n{total}", style="dim")


def _where(outcome: RunOutcome) -> Text:
    if outcome.run_path is None:
        return Text("Nothing was written. Without --dry-run the reports would be in the bucket.")
    lines = (
        f"Reports: bucket `reports`, {outcome.run_path}/reports/\n\n"
        "  from tasks.read import read_report\n"
        '  read_report("daily_activity").tail()'
    )
    return Text(lines)
