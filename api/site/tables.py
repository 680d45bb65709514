"""The table of a report's page: filtered, sorted and cut into pages by Arrow, then written for people."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from functools import reduce
from typing import Any
from urllib.parse import urlencode

import pyarrow as pa
import pyarrow.compute as pc

from api.site.formats import css, title, value, whole
from tasks.contracts import Column, Report
from tasks.publish.export import date_column, select

PER_PAGE = 50


@dataclass(frozen=True, slots=True)
class Heading:
    """A column of the table, and where a click on its head leads."""

    name: str
    title: str
    unit: str | None
    description: str
    css: str
    sorted: str
    sort_url: str


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked of the table. sort: a column, `-` in front for the greatest first. run: to keep it in links."""

    path: str
    run: str
    q: str = ""
    first: date | None = None
    last: date | None = None
    sort: str = ""
    page: int = 1
    keep: tuple[tuple[str, str], ...] = ()

    def url(self, **changes: Any) -> str:
        """The page's address with some of it changed."""
        facts = {"q": self.q, "from": self.first, "to": self.last, "sort": self.sort, "page": self.page, **changes}
        some = [(name, given) for name, given in facts.items() if given and (name, given) != ("page", 1)]
        return f"{self.path}?{urlencode([*self.keep, *some])}"


@dataclass(frozen=True, slots=True)
class TableView:
    """A page of rows with everything that is shown around it."""

    report: Report
    query: Query
    columns: list[Heading]
    rows: list[list[str | None]]
    total: int
    all_rows: int
    page: int
    pages: int
    kept: list[tuple[str, Any]] = field(default_factory=list)

    @property
    def q(self) -> str:
        return self.query.q

    @property
    def first(self) -> date | None:
        return self.query.first

    @property
    def last(self) -> date | None:
        return self.query.last

    @property
    def has_days(self) -> bool:
        return date_column(self.report) is not None and self.report.keys != ("as_of",)

    @property
    def is_one_row(self) -> bool:
        """A report of one row a run reads better as a list of figures."""
        return self.report.keys == ("as_of",) and len(self.rows) == 1 and len(self.columns) == len(self.report.columns)

    @property
    def is_filtered(self) -> bool:
        return bool(self.q or self.first or self.last)

    @property
    def why_empty(self) -> str:
        """What there is to say where no row is."""
        if self.first and self.last and self.first > self.last:
            return f"The first day, {self.first}, comes after the last day, {self.last}."
        if self.is_filtered:
            return "No row fits the filter. Clear it to see all rows."
        return "This report has no rows: its source tables are empty."

    @property
    def summary(self) -> str:
        """How many rows there are, in words."""
        if self.total == self.all_rows:
            return f"{whole(self.total)} row{'s' if self.total != 1 else ''}"
        return f"{whole(self.total)} of {whole(self.all_rows)} rows"

    @property
    def before(self) -> str | None:
        return self.query.url(page=self.page - 1) if self.page > 1 else None

    @property
    def after(self) -> str | None:
        return self.query.url(page=self.page + 1) if self.page < self.pages else None

    def download(self, form: str) -> str:
        """The API's address of these days of the report."""
        facts = {"format": form, "run": self.query.run, "from": self.first, "to": self.last}
        return f"/reports/{self.report.name}?{urlencode([(n, v) for n, v in facts.items() if v])}"


def view(table: pa.Table, report: Report, query: Query) -> TableView:
    """The rows asked for. `table`: the whole report."""
    known = [column for column in report.columns if column.name in table.column_names]
    found = _containing(_of_days(table, report, query), query.q)
    order = query.sort if query.sort.removeprefix("-") in table.column_names else default_sort(report)
    pages = max(1, -(-found.num_rows // PER_PAGE))
    page = min(max(query.page, 1), pages)
    some = _sorted(found, order).slice((page - 1) * PER_PAGE, PER_PAGE)
    cells = [[value(column, given) for given in some[column.name].to_pylist()] for column in known]
    rows = [list(row) for row in zip(*cells, strict=True)]
    kept = [*query.keep, *([("sort", query.sort)] if query.sort else [])]
    headings = [_heading(column, order, query) for column in known]
    return TableView(report, query, headings, rows, found.num_rows, table.num_rows, page, pages, kept)


def default_sort(report: Report) -> str:
    """The newest first where rows have days, else as the file is."""
    column = date_column(report)
    return f"-{column.name}" if column is not None and column.name == report.keys[0] else ""


def _of_days(table: pa.Table, report: Report, query: Query) -> pa.Table:
    if query.first is None and query.last is None:
        return table
    return select(table, report, columns=table.column_names, first=query.first, last=query.last)


def _containing(table: pa.Table, text: str) -> pa.Table:
    """Rows in which any column, as text, contains `text` as it stands."""
    if not text:
        return table
    masks = [
        pc.fill_null(pc.match_substring(table[name].cast(pa.string()), text, ignore_case=True), False)
        for name in table.column_names
    ]
    return table.filter(reduce(pc.or_, masks))


def _sorted(table: pa.Table, order: str) -> pa.Table:
    if not order:
        return table
    direction = "descending" if order.startswith("-") else "ascending"
    keys = [(order.removeprefix("-"), direction, "at_end")]
    return table.take(pc.sort_indices(table, sort_keys=keys))


def _heading(column: Column, order: str, query: Query) -> Heading:
    is_sorted = order.removeprefix("-") == column.name
    descends = order.startswith("-")
    then = column.name if is_sorted and descends else f"-{column.name}"
    said = ("descending" if descends else "ascending") if is_sorted else ""
    description = f"{column.description} Click to sort."
    unit = column.unit if column.unit not in ("share", "UTC", "day", "month") else None
    url = query.url(sort=then, page=1)
    return Heading(column.name, title(column.name), unit, description, css(column), said, url)
