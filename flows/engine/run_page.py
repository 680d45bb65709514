"""The pages and tables that a run leaves in Prefect, rendered: pure functions of its figures.

Nothing here holds a row's contents: figures, names of rules and files, and signed links (at most seven days) are all
there is.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import humanize

from flows.engine.markdown import code, inert
from tasks.contracts import USER_STATISTICS
from tasks.errors import (
    AccessError,
    ChoiceError,
    LeaseHeld,
    LeaseLost,
    PipelineError,
    RunHeld,
    SettingsError,
    TransientError,
)
from tasks.reports.figures import Figure, Shares

LABELS = {
    "total_users": "users",
    "active_users": "active users",
    "new_users_7d": "new users in 7 days",
    "posting_users": "users who have posted",
    "total_posts": "posts",
    "posts_7d": "posts in 7 days",
}
DECIMALS = 4  # of a figure in a table: no more than people read
COUNTS = ("read", "kept", "rejected", "inserted", "updated", "unchanged", "deleted", "refused")


def number(value: object) -> str:
    """A figure for people: thousands separated, two decimals at most, a dash for none."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "–"
    if isinstance(value, float):
        return f"{value:,.2f}".rstrip("0").rstrip(".")
    return f"{value:,}" if isinstance(value, int) else str(value)


def change(now: Figure, before: Figure) -> str:
    """The difference to the run before, with its sign and share; a dash when there is nothing to compare."""
    if now is None or before is None:
        return "–"
    difference = round(now - before, DECIMALS)
    if difference == 0:
        return "±0"
    share = _share(difference, before)
    sign = "+" if difference > 0 else "−"
    return f"{sign}{_amount(abs(difference))}{share}"


def _amount(difference: float) -> str:
    """A small one keeps its first digits: two decimals would say that it is 0."""
    return f"{difference:.2g}" if difference < 0.1 else number(difference)


def _share(difference: float, before: float) -> str:
    """` (+4.2 %)`; nothing where it would round to zero or there was nothing before."""
    share = f"{difference / before:+.1%}" if before else "0.0%"
    return "" if float(share[:-1]) == 0 else f" ({share[:-1]} %)".replace("-", "−")


def size(count: int) -> str:
    """Bytes for people, in binary units."""
    return humanize.naturalsize(count, binary=True, format="%.1f").replace(" Bytes", " B").replace(" Byte", " B")


def table(align: str, header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table; `align` has a letter for each column, l or r."""
    ruler = [{"l": ":--", "r": "--:"}[letter] for letter in align]
    lines = [header, ruler, *([cell(value) for value in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def cell(value: object) -> str:
    """Text that cannot break out of its cell."""
    return inert(" ".join(number(value).replace("|", "\\|").split()))


def summary_page(
    *,
    status: str,
    as_of: datetime,
    run_id: str,
    transport: str,
    headline: Mapping[str, Figure],
    last: Mapping[str, Figure],
    tables: Mapping[str, Mapping[str, int]],
    seconds: float,
    notes: Sequence[str],
) -> str:
    """Markdown: what the run did, the headline figures with their change since the last run, the rows by table.

    headline, last: columns of user_statistics to figures. tables: name to counts (read, kept, …). notes: sentences that
    a reader must not miss, such as that a historical run is computed from current rows.
    """
    descriptions = {column.name: column.description for column in USER_STATISTICS.columns}
    figures = [
        (f"**{name}**", headline.get(name), change(headline.get(name), last.get(name)), descriptions.get(name, ""))
        for name in LABELS
    ]
    return "\n\n".join(
        [
            f"# {status.capitalize()}: as of {as_of:%Y-%m-%d %H:%M} UTC",
            *(f"> {inert(note)}" for note in notes),
            table("lrrl", ["figure", "now", "since the last run", "meaning"], figures),
            rows_section(tables),
            f"Run `{run_id}` over {transport}, {seconds:,.0f} s.",
        ]
    )


def rows_section(tables: Mapping[str, Mapping[str, int]]) -> str:
    """The rows of each table, as a section of Markdown: the counts that any of them has."""
    used = [count for count in COUNTS if any(count in counts for counts in tables.values())]
    rows = [(name, *(counts.get(count) for count in used)) for name, counts in tables.items()]
    return f"## Rows\n\n{table('l' + 'r' * len(used), ['table', *used], rows)}"


def statistics_rows(headline: Mapping[str, Figure], last: Mapping[str, Figure]) -> list[dict[str, Any]]:
    """Every column of user_statistics as a row: figure, now, change, unit, meaning; plain JSON."""
    return [
        {
            "figure": column.name,
            "now": _rounded(headline.get(column.name)),
            "since the last run": change(headline.get(column.name), last.get(column.name)),
            "unit": column.unit or "",
            "meaning": column.description,
        }
        for column in USER_STATISTICS.columns
        if column.name != "as_of"
    ]


def plain(value: object) -> object:
    """A value that JSON can carry: no NaN, no date."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def _rounded(value: Figure) -> object:
    """A figure as a table shows it: no more decimals than people read."""
    return round(value, DECIMALS) if isinstance(value, float) and math.isfinite(value) else plain(value)


def cleaning_rows(quality: Sequence[Mapping[str, Any]], last: Shares) -> list[dict[str, Any]]:
    """The cleaning ledger: the rows of data_quality with the change of the share, in points, since the last run.

    last: (table, rule) to its share then.
    """
    return [
        {
            **{name: plain(value) for name, value in row.items() if name != "share"},
            "share": _percent(row.get("share")),
            "points since the last run": _points(row.get("share"), last.get((str(row["table"]), str(row["rule"])))),
        }
        for row in quality
    ]


def samples_page(samples: Mapping[str, Mapping[str, Sequence[Mapping[str, str]]]]) -> str:
    """Markdown: what each rule did to a few rows, masked. samples: table to rule to column, before and after."""
    rows = [
        (table_name, rule, sample["column"], code(sample["before"]), code(sample["after"]))
        for table_name, rules in samples.items()
        for rule, found in rules.items()
        for sample in found
    ]
    return "\n\n".join(
        [
            "# What the rules did",
            "At most five rows a rule, personal text masked to its shape. *After* a rejection: what was expected.",
            table("lllll", ["table", "rule", "column", "before", "after"], rows) if rows else "No rule touched a row.",
        ]
    )


def _percent(share: float | None) -> str:
    return "–" if plain(share) is None else f"{share:.3%}"


def _points(share: float | None, before: float | None) -> str:
    if share is None or before is None or not math.isfinite(share):
        return "–"
    return f"{(share - before) * 100:+.2f}"


def files_page(files: Sequence[Mapping[str, Any]], *, path: str, seconds: int) -> str:
    """Markdown: a signed link for each file. files: path, rows, bytes, link (None when there is none).

    seconds: how long the links work.
    """
    rows = [
        (f"[{f['path']}]({f['link']})" if f.get("link") else f["path"], f.get("rows"), size(int(f["bytes"])))
        for f in files
    ]
    return "\n\n".join(
        [
            "# Files of this run",
            f"In the bucket under `{path}`. Each link works for {_time(seconds)}, for whoever has it.",
            table("lrr", ["file", "rows", "size"], rows),
            "`pd.read_parquet(link)` reads one; `tasks.read.read_report(name)` reads the latest without a link.",
        ]
    )


def _time(seconds: int) -> str:
    """`7 days`, `1 hour`."""
    return humanize.precisedelta(seconds, minimum_unit="seconds", format="%d")


def traffic_rows(stages: Mapping[str, Mapping[str, float]]) -> list[dict[str, Any]]:
    """What each stage cost. stages: name to rows, seconds, sent, received (bytes); what is missing counts as 0."""
    return [
        {
            "stage": name,
            "seconds": round(float(s.get("seconds", 0)), 1),
            "rows": int(s["rows"]) if s.get("rows") else None,
            "sent": size(int(s.get("sent", 0))),
            "received": size(int(s.get("received", 0))),
        }
        for name, s in [*stages.items(), ("all", _total(stages.values()))]
    ]


def _total(stages: Iterable[Mapping[str, float]]) -> dict[str, float]:
    names = ("seconds", "sent", "received")
    figures = list(stages)
    return {name: sum(float(s.get(name, 0)) for s in figures) for name in names}


def failure_page(
    error: BaseException, *, stage: str, written: str, run_id: str | None = None, flow: str = "nightly"
) -> str:
    """Markdown: what happened and where, what was and was not written, what to do next. Never an unknown message.

    The words of errors that are not ours may hold data of a row, so only their type is named.
    """
    ours = isinstance(error, PipelineError)
    message = error.message if isinstance(error, PipelineError) else f"An unexpected {type(error).__name__}."
    remedy = error.remedy if isinstance(error, PipelineError) else ""
    title = "Held" if isinstance(error, RunHeld) else "Failed"
    return "\n\n".join(
        [
            f"# {title} at: {stage}",
            f"**What happened.** {inert(message)}",
            f"**What was written.** {inert(written)}",
            f"**What to do next.** {' '.join(part for part in (inert(remedy), _advice(error, stage, flow)) if part)}",
            f"Run `{run_id}`." if run_id else "",
            "" if ours else "This is a fault of the pipeline: its log has the traceback, without rows or secrets.",
        ]
    ).strip()


def _advice(error: BaseException, stage: str, flow: str) -> str:
    if isinstance(error, RunHeld):
        return (
            "Look at the metric's history in the cleaning ledger. If it is right, start `nightly` with that name under "
            "*Accept held metrics*; if not, fix the source and start it as it is."
        )
    if isinstance(error, LeaseHeld | ChoiceError):
        return ""  # its remedy says it all
    if isinstance(error, LeaseLost) and flow == "nightly":
        return "Nothing: another run took over and finishes the night. See why this one was unresponsive for so long."
    if isinstance(error, TransientError):
        resumed = " with *As of* set to `resume`" if flow == "nightly" else ""
        return f"Start `{flow}` again{resumed}; start `doctor` if it fails again."
    again = "Then start this flow again."
    if isinstance(error, AccessError | SettingsError):
        again = f"A worker whose environment has them reads it once: start the worker again, too. {again}"
    if stage == "doctor":  # this is its page
        return again
    return f"Start `doctor`: it names what is wrong with settings, keys, tables or bucket. {again}"
