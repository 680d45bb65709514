"""What a run shows on its page when it is over."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import PurePosixPath

from flows.engine import run_page
from flows.engine.artifacts import Page, show_in_order
from flows.engine.csv_files import publish_csv
from flows.engine.outcome import RunOutcome
from flows.engine.report_page import report_page
from tasks.errors import PipelineError
from tasks.publish.upload import signed_links
from tasks.reports.figures import RunCounts
from tasks.settings import Settings, load_settings

logger = logging.getLogger(__name__)
LATEST = "latest-report"  # the key whose page in Prefect always shows the newest run that readers see


def show_outcome(outcome: RunOutcome) -> None:
    """The artifacts of a run that ended well, `report` first; the newest one is also under its own stable key.

    The run is committed: links that Storage refuses are left out, and the pages say so.
    """
    settings = load_settings(transport=outcome.transport)  # that of the run, whatever the settings alone say
    links, csv_links, problems = _links(settings, outcome) if outcome.run_path else ({}, {}, [])
    outcome = replace(outcome, notes=[*outcome.notes, *problems])
    report = report_page(outcome, links=links, csv_links=csv_links)
    pages = [Page("report", "markdown", "What this run did, its figures, charts and files.", report)]
    pages += _details(outcome)
    charts = [_chart(of.path, links[of.path]) for of in outcome.files if of.kind == "chart" and of.path in links]
    if outcome.run_path:
        pages.append(_files(settings, outcome, links))
    latest = [Page(LATEST, "markdown", "The newest run that readers see.", report)] if outcome.current else []
    show_in_order(pages, [*charts, *latest])


def _details(outcome: RunOutcome) -> list[Page]:
    last = outcome.last or RunCounts()
    statistics = run_page.statistics_rows(outcome.headline, last.headline)
    cleaning = run_page.cleaning_rows(outcome.quality, last.shares)
    return [
        Page("summary", "markdown", "The run in short.", _summary(outcome)),
        Page("statistics", "table", "The report `user_statistics`.", statistics),
        Page("cleaning", "table", "What each cleaning rule did.", cleaning),
        Page("cleaning-samples", "markdown", "Masked samples, rule by rule.", run_page.samples_page(outcome.samples)),
        Page("traffic", "table", "Seconds, rows and bytes by stage.", run_page.traffic_rows(outcome.stages)),
    ]


def _summary(outcome: RunOutcome) -> str:
    return run_page.summary_page(
        status=outcome.status.replace("_", " "),
        as_of=outcome.as_of,
        run_id=outcome.run_id,
        transport=outcome.transport,
        headline=outcome.headline,
        last=(outcome.last or RunCounts()).headline,
        tables=outcome.tables,
        seconds=outcome.seconds,
        notes=[*outcome.notes, *outcome.identity],
    )


def _links(settings: Settings, outcome: RunOutcome) -> tuple[dict[str, str], dict[str, str], list[str]]:
    """Signed links by the path of a file of the run, those of the reports as CSV by report, and what went wrong."""
    problems: list[str] = []
    paths = {entry.path: f"{outcome.run_path}/{entry.path}" for entry in outcome.files}
    csv_paths = _or_none("The reports as CSV", lambda: publish_csv(settings, outcome), problems)
    wanted = [*paths.values(), *csv_paths.values()]
    signed = _or_none("The signed links", lambda: signed_links(settings, wanted), problems)
    links = {path: signed[full] for path, full in paths.items() if full in signed}
    return links, {report: signed[full] for report, full in csv_paths.items() if full in signed}, problems


def _or_none(what: str, make: Callable[[], dict[str, str]], problems: list[str]) -> dict[str, str]:
    try:
        return make()
    except PipelineError as error:
        problems.append(f"{what} could not be made: {error.message} The run is committed, and its files are there.")
        logger.warning(problems[-1])
        return {}


def _files(settings: Settings, outcome: RunOutcome, links: Mapping[str, str]) -> Page:
    """Signed links to every file of the run."""
    entries = [
        {"path": entry.path, "rows": entry.rows, "bytes": entry.bytes, "link": links.get(entry.path)}
        for entry in outcome.files
    ]
    page = run_page.files_page(entries, path=str(outcome.run_path), seconds=settings.signed_link_seconds)
    return Page("files", "markdown", "Signed links to each file.", page)


def _chart(path: str, link: str) -> Page:
    name = PurePosixPath(path).stem
    title = name.replace("_", " ").capitalize()
    # Not of the type image: Prefect's page of one shows the link beside it, whose token runs over the next column.
    return Page(f"chart-{name.replace('_', '-')}", "markdown", title, f"![{title}]({link})")
