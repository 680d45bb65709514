"""The artifact `report`: what somebody who opens a run's page wants to know, in the order in which they ask.

Status, headline figures with their changes, the charts, the files, what to do next. Pure: facts in, Markdown out.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from flows.engine.markdown import inert
from flows.engine.outcome import COMPARED_DAYS, RunOutcome
from flows.engine.run_page import LABELS, change, number, rows_section, size, table
from tasks.contracts import REPORTS

Figures = Mapping[str, int | float | None]
CHART_TITLES = {
    "growth": "Growth",
    "activity": "Activity",
    "retention": "Retention",
    "posting_hours": "Posting hours",
    "data_quality": "Data quality",
}
_NEAR = timedelta(hours=12)  # how far a run's as_of may be from the day before for a comparison


def report_page(outcome: RunOutcome, *, links: Mapping[str, str], csv_links: Mapping[str, str]) -> str:
    """Markdown for a run that ended well.

    links: signed links by the path of a file of the run. csv_links: the same for reports as CSV, by report.
    """
    return "\n\n".join(
        [
            f"# {status_sentence(outcome)}",
            day_sentence(outcome),
            *(f"> {inert(note)}" for note in outcome.notes),
            _figures(outcome),
            *_charts(links),
            _files(outcome, links, csv_links),
            rows_section(outcome.tables),
            f"## Next\n\n{next_step(outcome)}",
            _footer(outcome),
        ]
    )


def status_sentence(outcome: RunOutcome) -> str:
    """Who sees this run, or which other one readers see, and why."""
    if outcome.status == "dry_run":
        return "A dry run: everything was checked, nothing was written"
    if outcome.current:
        return "Readers now see this run"
    other = f"run `{outcome.readers_see}`" if outcome.readers_see else "an earlier run"
    if outcome.historical:
        return f"Readers still see {other}, because this one is as of an earlier instant"
    if outcome.readers_see:
        return f"Readers still see {other}, because it is as of a later instant or was committed meanwhile"
    return f"Readers still see {other}, because `latest.json` did not move"


def day_sentence(outcome: RunOutcome) -> str:
    """The one meaning of the run's day: as_of, exclusive, and the last day that the reports cover."""
    last = outcome.as_of - timedelta(microseconds=1)
    whole = outcome.as_of.time() == datetime.min.time()
    day = f"{last:%A, %-d %B %Y}"
    covers = f"whole days up to and including **{day}**" if whole else f"a part of **{day}**, and the whole days before"
    return f"Reports are as of **{outcome.as_of:%Y-%m-%d %H:%M} UTC**: they cover {covers}."


def next_step(outcome: RunOutcome) -> str:
    """One sentence: what somebody does after reading this."""
    if outcome.status == "dry_run":
        return "Start `nightly` without *Dry run* to publish these figures."
    if outcome.historical:
        return f'`read_report("daily_activity", run="{outcome.run_id}")` reads this run.'
    if not outcome.current:
        return "The next start of `nightly` moves `latest.json`; the run's note says why it did not move."
    return "Nothing. `compare` shows what changed against an earlier run, `export` makes a file of a part of a report."


def _figures(outcome: RunOutcome) -> str:
    yesterday, week = (earlier_figures(outcome, days=days) for days in COMPARED_DAYS)
    rows = [
        (
            f"**{label}**",
            outcome.headline.get(name),
            change(outcome.headline.get(name), yesterday.get(name)),
            change(outcome.headline.get(name), week.get(name)),
        )
        for name, label in LABELS.items()
    ]
    weekday = f"{(outcome.as_of - timedelta(microseconds=1)):%A}"
    return table("lrrr", ["figure", "now", "since yesterday", f"since {weekday} a week ago"], rows)


def earlier_figures(outcome: RunOutcome, *, days: int) -> Figures:
    """The headline of the committed run that is as of so many days earlier; nothing when there is none near.

    A historical run is compared with nothing: what was committed before it may be as of a later instant.
    """
    if outcome.historical:
        return {}
    wanted = outcome.as_of - timedelta(days=days)
    committed = [run for run in outcome.history if run.event != "held"]
    apart = {index: abs(run.as_of - wanted) for index, run in enumerate(committed)}
    nearest = min(apart, key=lambda index: apart[index], default=None)
    if nearest is None or apart[nearest] > _NEAR:
        return {}
    return committed[nearest].headline


def _charts(links: Mapping[str, str]) -> list[str]:
    shown = [(title, links.get(f"charts/{name}.png")) for name, title in CHART_TITLES.items()]
    return [f"![{title}]({link})" for title, link in shown if link]


def _files(outcome: RunOutcome, links: Mapping[str, str], csv_links: Mapping[str, str]) -> str:
    if not outcome.run_path:
        return "## Files\n\nNone: a dry run publishes nothing."
    rows = [
        (report.name, _link("Parquet", links.get(f"reports/{report.name}.parquet")),
         _link("CSV", csv_links.get(report.name)), report.description)
        for report in REPORTS
    ]  # fmt: skip
    listed = table("llll", ["report", "Parquet", "CSV", "holds"], rows)
    return f"## Files\n\n{listed}\n\nIn the bucket under `{outcome.run_path}`."


def _link(label: str, link: str | None) -> str:
    return f"[{label}]({link})" if link else "–"


def mode_sentence(outcome: RunOutcome) -> str:
    """How the run read, and why; what an incremental night did not have to read."""
    if outcome.mode == "incremental":
        rows, spared = outcome.not_read.get("rows", 0), size(outcome.not_read.get("bytes", 0))
        return (
            f"Incremental: {rows:,} rows (about {spared}) were not read, as they are those of run `{outcome.base_run}`."
        )
    because = f", because {outcome.full_because}" if outcome.full_because else ""
    audit = "" if outcome.drifted is None else f" {_audit(outcome.drifted)}"
    return f"Full: every row was read{because}.{audit}"


def _audit(drifted: int) -> str:
    if drifted:
        differ = f"{drifted:,} rows differ from what the incremental nights before had kept"
        return f"**{differ}: see the log, start `doctor`.**"
    return "Nothing had drifted since the run before it."


def transport_name(outcome: RunOutcome) -> str:
    """How the run reached the project, as people write it."""
    return {"rest": "REST", "postgres": "Postgres"}.get(outcome.transport, outcome.transport)


def _footer(outcome: RunOutcome) -> str:
    run = f"Run `{outcome.run_id}` over {transport_name(outcome)}, {number(round(outcome.seconds))} s."
    return " ".join([run, mode_sentence(outcome), *outcome.identity])
