"""Are the reports what their contracts say, and do they agree with each other? Asked before anything is published."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd
import pandera.pandas as pandera
import pyarrow as pa
import pyarrow.compute as pc

from tasks.cleaning.counts import CleanCounts
from tasks.contracts import Column, Report
from tasks.errors import ConfigurationError

_SHOWN = 3


def check_contract(report: Report, table: pa.Table) -> None:
    """ConfigurationError unless columns, types, nulls, keys and bounds are those of the contract."""
    if table.schema != report.schema:
        raise _broken(report, f"its columns are {_described(table.schema)}, expected {_described(report.schema)}")
    frame = table.to_pandas(types_mapper=pd.ArrowDtype)
    try:
        frame_schema(report).validate(frame, lazy=True)
    except pandera.errors.SchemaErrors as error:
        raise _broken(report, _failures(error.failure_cases)) from None
    if report.sorted_by_keys and not in_order(table, report.keys):
        raise _broken(report, f"its rows are not sorted by {', '.join(report.keys)}")


def in_order(table: pa.Table, keys: Sequence[str]) -> bool:
    """Whether no row comes before the one above it. Sorted as a whole, texts must fit 2 GiB: 60,000,000 ids do not."""
    above, below = table.slice(0, max(0, table.num_rows - 1)), table.slice(1)
    follows = pa.scalar(True)
    for name in reversed(keys):
        same = pc.and_(pc.equal(above[name], below[name]), follows)
        follows = pc.or_(pc.less(above[name], below[name]), same)
    return bool(pc.all(follows, min_count=0).as_py())


def frame_schema(report: Report) -> pandera.DataFrameSchema:
    """The contract of a report, as pandera checks it: nulls, unique keys, bounds."""
    columns = {c.name: pandera.Column(nullable=c.nullable, checks=_bounds(c)) for c in report.columns}
    return pandera.DataFrameSchema(columns, unique=list(report.keys))


def _bounds(column: Column) -> list[Any]:
    if column.unit == "share":
        return [pandera.Check.in_range(0, 1)]
    return [pandera.Check.ge(0)] if column.kind == "int" else []


def _failures(cases: pd.DataFrame) -> str:
    """Column, rule and rows of the first failures. Reports hold no personal data, but ids are left out all the same."""
    grouped = cases.groupby(["column", "check"], dropna=False, sort=True).size().reset_index(name="rows").head(_SHOWN)
    return "; ".join(f"{row.column}: {row.check} fails in {row.rows:,} rows" for row in grouped.itertuples())


def _described(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name} {field.type}{'' if field.nullable else ' not null'}" for field in schema)


def _broken(report: Report, what: str) -> ConfigurationError:
    return ConfigurationError(
        f"The report {report.name} does not fit its contract: {what}.",
        remedy="This is a fault of the pipeline, not of the data. Nothing was published.",
    )


def check_totals(reports: Mapping[str, pa.Table], counts: Mapping[str, CleanCounts]) -> None:
    """ConfigurationError when a total is not the same wherever it is said.

    reports: by name. counts: what cleaning counted, by table.
    """
    for total, said in totals(reports, counts):
        if len(set(said.values())) > 1:
            listed = ", ".join(f"{where} says {value:,}" for where, value in said.items())
            raise ConfigurationError(
                f"The reports disagree on {total}: {listed}.",
                remedy="This is a fault of the pipeline, not of the data. Nothing was published.",
            )


def totals(reports: Mapping[str, pa.Table], counts: Mapping[str, CleanCounts]) -> Iterator[tuple[str, dict[str, int]]]:
    """Each total with what the reports and the counts of cleaning say of it. Long, as it is the list of all totals."""
    head = reports["user_statistics"].to_pylist()[0]
    daily, authors = reports["daily_activity"], reports["author_activity"]
    cohorts, hours = reports["signup_cohorts"], reports["post_statistics"]
    founded = cohorts.filter(pc.equal(cohorts["months_since"], 0))
    yield (
        "users in scope",
        {
            "user_statistics": head["total_users"],
            "its statuses": head["active_users"] + head["inactive_users"] + head["other_users"],
            "daily_activity": _sum(daily["new_users"]),
            "signup_cohorts": _sum(founded["users"]),
        },
    )
    yield (
        "posts in scope",
        {
            "user_statistics": head["total_posts"],
            "daily_activity": _sum(daily["posts"]),
            "author_activity": _sum(authors["post_count"]),
            "post_statistics": _sum(hours["posts"]),
            "the cleaned posts": counts["posts"].kept - counts["posts"].in_scope.after_as_of,
        },
    )
    words = {"daily_activity": daily, "author_activity": authors, "post_statistics": hours}
    yield "words", {name: _sum(table["words"]) for name, table in words.items()}
    yield (
        "posting users",
        {
            "user_statistics": head["posting_users"],
            "daily_activity": _sum(daily["new_authors"]),
            "author_activity": authors.num_rows,
        },
    )
    for table, of in counts.items():
        rejected = sum(rule.affected for rule in of.rules if rule.action == "rejected")
        yield f"{table} rejected", {"the rules": rejected, "the rows": of.read - of.kept}


def _sum(column: pa.ChunkedArray) -> int:
    return int(pc.sum(column, min_count=0).as_py())
