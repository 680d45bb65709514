"""The comparison: how a report of one published run differs from that of another. It writes nothing but its page."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress

import pyarrow as pa
from prefect import get_run_logger

from flows.engine.artifacts import show_report
from flows.engine.declare import etl_flow, etl_task
from flows.engine.form_command import run_form
from flows.engine.run_page import number, table
from flows.forms import LATEST, PREVIOUS, CompareForm, report_named
from tasks.errors import ChoiceError, NotThere, PipelineError
from tasks.files.manifest import Manifest
from tasks.read import Diff, OpenRun, diff, list_runs, run_before
from tasks.read.difference import NEW, OLD
from tasks.read.options import Access, choice_of
from tasks.read.run import find_run
from tasks.settings import Settings, load_settings

LISTED = 10  # runs


@etl_flow(name="compare", run_name="compare {options.report} of {options.base} with {options.run}")
def compare(options: CompareForm = CompareForm()) -> dict[str, int]:  # noqa: B008 - the form is frozen
    """Compare a report of two published runs: rows added, removed and changed, old and new value of each cell.

    Args:
        options: Which report of which runs.
    """
    found = compare_runs(load_settings(), options)
    counts = {name: rows.num_rows for name, rows in parts(found)}
    get_run_logger().info("compare %s %s", options.report, " ".join(f"{name}={n}" for name, n in counts.items()))
    show_report(page(found, options.rows), key="compare", description="What differs between the two runs.")
    return counts


@etl_task("compare runs")
def compare_runs(settings: Settings, options: CompareForm) -> Diff[pa.Table]:
    """The difference, read with the service's key. ChoiceError for a run that is not there."""
    access = Access(settings=settings)

    def find(run: str, newer: OpenRun | None = None) -> OpenRun:
        """newer: before which `previous` is; None the latest."""
        if run == PREVIOUS:
            run = run_before(newer or find(LATEST), settings=settings)
        choice = choice_of(None if run == LATEST else run, access)
        return find_run(choice, may_be_offline=False)  # not what this machine read last: the page says what readers get

    try:
        run = find(options.run)
        base = find(options.base, run)
        return diff(options.report, base, run, engine="arrow", settings=settings)
    except NotThere as error:  # what is damaged or refused, no choice of another run changes
        raise ChoiceError(error.message, remedy=_choice(settings) or error.remedy) from None


def _choice(settings: Settings) -> str:
    """The newest runs that can be compared, in a sentence: a form has no list of them. Empty when they are unknown."""
    with suppress(PipelineError):
        runs = list_runs(limit=LISTED, settings=settings)
        known = ", ".join(
            f"{run} (as of {as_of:%Y-%m-%d %H:%M})" for run, as_of in zip(runs.run_id, runs.as_of, strict=True)
        )
        return (
            f"The newest runs are {known}: give one of them, or a day."
            if known
            else "No run was published yet: start `nightly`."
        )
    return ""


def parts(found: Diff[pa.Table]) -> list[tuple[str, pa.Table]]:
    """The three tables of a difference, by name."""
    return [("added", found.added), ("removed", found.removed), ("changed", found.changed)]


def page(found: Diff[pa.Table], rows: int) -> str:
    """The difference as Markdown: counts, columns, and up to `rows` changed rows. User ids are never listed."""
    facts = [
        ("base", _run(found.base)),
        ("run", _run(found.run)),
        *((f"rows {name}", number(of.num_rows)) for name, of in parts(found)),
    ]
    texts = [f"# {found.report}: {verdict(found)}", table("ll", ["", ""], facts)]
    if found.new_columns or found.lost_columns:
        names = ", ".join(f"`{name}`" for name in found.new_columns + found.lost_columns)
        texts.append(f"Only one of the two files has {names}.")
    if found.cells:
        cells = [(f"`{name}`", count) for name, count in found.cells.items()]
        texts.append(table("lr", ["column", "rows in which it differs"], cells))
    if report_named(found.report).names_users:
        texts.append("Its rows name user ids, so they are not listed here: `tasks.read.diff` gives them.")
    elif found.changed.num_rows and rows:
        texts.append(_changed(found, rows))
    return "\n\n".join(texts)


def verdict(found: Diff[pa.Table]) -> str:
    """The outcome in one sentence."""
    if found.identical:
        return "the same file in both runs"
    return " · ".join(f"{of.num_rows:,} {name}" for name, of in parts(found)) if found else "no difference"


def _run(manifest: Manifest) -> str:
    return f"`{manifest.run_id}`, as of {manifest.as_of:%Y-%m-%d %H:%M} UTC"


def _changed(found: Diff[pa.Table], rows: int) -> str:
    """The first changed rows: their keys, and `old → new` of each cell that differs."""
    keys = [name for name in found.keys if name in found.changed.column_names]
    shown = found.changed.slice(0, rows)
    lines = list(_lines(shown, keys, list(found.cells)))
    head = f"The first {shown.num_rows:,} of {found.changed.num_rows:,} changed rows:"
    return f"{head}\n\n{table('l' * (len(keys) + len(found.cells)), [*keys, *found.cells], lines)}"


def _lines(shown: pa.Table, keys: Sequence[str], columns: Sequence[str]) -> Iterator[list[object]]:
    for row in shown.to_pylist():  # at most 200 rows
        cells = [_change(row[f"{name}{OLD}"], row[f"{name}{NEW}"]) for name in columns]
        yield [*(row[key] for key in keys), *cells]


def _change(old: object, new: object) -> str:
    """`old → new`, with as many digits as show that they differ; empty where they do not."""
    for text in (number, _four_digits, _exact):
        if (before := text(old)) != (after := text(new)):
            return f"{before} → {after}"
    return ""


def _four_digits(value: object) -> str:
    """For shares, which differ by less than `number` shows."""
    return f"{value:.4g}" if isinstance(value, float) else _exact(value)


def _exact(value: object) -> str:
    """All digits; null as everywhere on a page."""
    return number(None) if value is None else str(value)


if __name__ == "__main__":
    sys.exit(run_form(compare, CompareForm, "compare"))
