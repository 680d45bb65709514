"""The data dictionary, made from the contracts: `python -m tasks.contracts.dictionary` writes data/DICTIONARY.md."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from tasks.contracts import ARROW_TYPES, REPORTS, TABLES, Column, Report, Table
from tasks.contracts.versions import write_record

PATH = Path(__file__).parents[2] / "data" / "DICTIONARY.md"

INTRODUCTION = """\
# Data dictionary

Made from `tasks/contracts/` by `make dictionary`; do not edit it here. The same descriptions and units are in the
schema metadata of each of these Parquet files; the files in `state/`, for the next incremental night, have none. All
times are UTC, a day is a calendar day in UTC, and the reports cover what was created before the run's `as_of`.

Types are Arrow's. In pandas, `read_report` gives days as `datetime64`, whole numbers that may be null as `Int64`, text
as `str`; in Polars and DuckDB they are what their names say. A share is a fraction from 0 to 1. What may be null is
null where there is nothing to compute it from: a quantile without a post, a share of nothing.

In Postgres, `user_statistics` is a history: a row for each `as_of` up to the current run's, but none of a run for a
past instant, such as those of `backfill`. `daily_activity` there is the current run's.
"""


def render() -> str:
    """The whole dictionary as Markdown."""
    sections = [INTRODUCTION, _contents(), "## Reports\n"]
    sections += [_report(report) for report in REPORTS]
    sections += ["## Cleaned tables\n", *(_table(table) for table in TABLES)]
    return "\n".join(sections)


def _contents() -> str:
    rows = [
        *((r.name, f"reports/{r.name}.parquet", r.description, r.names_users) for r in REPORTS),
        *((f"{t.name}, cleaned", f"clean/{t.name}/…", t.description, True) for t in TABLES),
    ]
    lines = [
        f"| [{name}](#{_anchor(name)}) | `{path}` | {about} | {'kept for a month' if ids else 'no'} |"
        for name, path, about, ids in rows
    ]
    head = ["| | File | What it holds | Names user ids |", "|---|---|---|---|"]
    return "\n".join([*head, *lines]) + "\n"


def _report(report: Report) -> str:
    order = _sorted_by(report.keys) if report.sorted_by_keys else f"keys {_named(report.keys)}, not sorted by them"
    facts = [f"`reports/{report.name}.parquet`", order, f"version {report.version}"]
    if report.in_postgres:
        facts.append(f"also the table `{report.name}` in Postgres")
    return _section(report.name, report.description, facts, report.columns)


def _table(table: Table) -> str:
    folder = f"clean/{table.name}/" + (f"month=YYYY-MM/ (month of `{table.by_month}`)" if table.by_month else "")
    path, _, month = folder.partition(" ")
    facts = [f"`{path}part-NNN.parquet` {month}".strip(), _sorted_by((table.key.name,)), f"version {table.version}"]
    absent = ", ".join(f"`{c.name}`" for c in table.columns if c.in_file != "value")
    note = f"Not in the files: {absent}; they are in the table `{table.clean}` in Postgres."
    return _section(f"{table.name}, cleaned", f"{table.description} {note}", facts, table.file_columns)


def _sorted_by(keys: Iterable[str]) -> str:
    return f"sorted by {_named(keys)}"


def _named(keys: Iterable[str]) -> str:
    return ", ".join(f"`{key}`" for key in keys)


def _section(title: str, description: str, facts: list[str], columns: Iterable[Column]) -> str:
    head = ["| Column | Type | Unit | May be null | Meaning |", "|---|---|---|---|---|"]
    return (
        "\n".join([f"### {title}\n", f"{description}\n", " · ".join(facts) + "\n", *head, *map(_row, columns)]) + "\n"
    )


def _row(column: Column) -> str:
    meaning = column.description.replace("|", "\\|")
    null = "yes" if column.nullable else "no"
    return f"| `{column.name}` | {ARROW_TYPES[column.kind]} | {column.unit or ''} | {null} | {meaning} |"


def _anchor(title: str) -> str:
    """The anchor that GitHub gives a heading."""
    return title.lower().replace(",", "").replace(" ", "-")


def main(arguments: Sequence[str] = ()) -> int:
    """Write the dictionary and the record of versions: 0 done, 1 when a version has to be raised first."""
    argparse.ArgumentParser(prog="python -m tasks.contracts.dictionary", description=__doc__).parse_args(arguments)
    try:
        write_record()
        PATH.write_text(render(), encoding="utf-8")
    except ValueError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    except OSError as error:
        sys.stderr.write(f"error: {error.filename or PATH} cannot be written: {error.strerror}.\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
