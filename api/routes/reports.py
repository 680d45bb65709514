"""Reports as data: JSON for programs, CSV for spreadsheets, Parquet and Arrow for frames."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any

import pyarrow as pa
from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import FileResponse, Response, StreamingResponse
from pydantic import BaseModel, BeforeValidator, Field

from api.cursors import Cursor, Limit, Page, page_of
from api.difference import Difference, difference_of, runs_of
from api.parameters import known_once
from api.problems import Problem, documented
from api.selection import MEDIA_TYPES, Format, Selection, columns_of
from api.session import Reader
from api.store import Store
from tasks.contracts import REPORTS, TABLES, Report
from tasks.errors import ReadError
from tasks.files.layout import day_of
from tasks.files.manifest import FileEntry, Manifest
from tasks.files.parquet import file_schema, report_schema
from tasks.publish.export import date_column
from tasks.read.options import not_a_number

router = APIRouter(tags=["reports"], dependencies=[Depends(known_once)])

AsOf = Annotated[
    str | None,
    Query(
        max_length=40, description="A day or an instant: its run instead of the current one.", examples=["2026-01-31"]
    ),
]
RunId = Annotated[
    str | None,
    Query(max_length=120, description="A run's id, instead of `as_of`.", examples=["20260201T030000Z-3f1c9a"]),
]
Day = Annotated[date, BeforeValidator(not_a_number)]
Columns = Annotated[str | None, Query(max_length=2_000, description="Comma-separated.", examples=["date,posts"])]
SMALL = 4 * 2**20  # bodies up to this size are kept in memory
BY_NAME = {report.name: report for report in REPORTS}


class ColumnInfo(BaseModel):
    """One column of a report or a cleaned table."""

    name: str = Field(examples=["posts"])
    type: str = Field(examples=["int64"])
    unit: str | None = Field(examples=["posts"])
    nullable: bool
    description: str = Field(examples=["Posts of the day."])


class ReportInfo(BaseModel):
    """A report of a run."""

    name: str = Field(examples=["daily_activity"])
    description: str
    keys: list[str] = Field(description="The columns that identify a row.", examples=[["date"]])
    run: str = Field(examples=["20260201T030000Z-3f1c9a"])
    as_of: str = Field(examples=["2026-02-01T00:00:00+00:00"])
    rows: int | None = Field(description="Null when the run has no such file, or no more.", examples=[1130])
    bytes: int | None = Field(examples=[31_244])
    etag: str | None = Field(description="Equal content has an equal one.")


class DictionaryEntry(BaseModel):
    """What a report or a cleaned table holds, column by column."""

    name: str
    kind: str = Field(examples=["report"])
    description: str
    keys: list[str]
    columns: list[ColumnInfo]


@router.get("/reports", responses=documented(401, 403, 404, 503))
def list_reports(
    request: Request, caller: Reader, as_of: AsOf = None, run: RunId = None, cursor: Cursor = None, limit: Limit = 100
) -> Page[ReportInfo]:
    """The reports of a run, by default of the current one, in the dictionary's order."""
    manifest = request.app.state.store.manifest(caller, as_of=as_of, run=run)
    infos = [_info(report, manifest) for report in REPORTS]
    items, after = page_of(infos, key=lambda info: info.name, cursor=cursor, limit=limit)
    return Page(items=items, next=after)


def _info(report: Report, manifest: Manifest) -> ReportInfo:
    entry = manifest.file(path_of(report))
    return ReportInfo(
        name=report.name,
        description=report.description,
        keys=list(report.keys),
        run=manifest.run_id,
        as_of=manifest.as_of.isoformat(),
        rows=entry and entry.rows,
        bytes=entry and entry.bytes,
        etag=entry and Selection(report, "parquet").etag(entry.sha256),
    )


_DATA: dict[int | str, dict[str, Any]] = {
    200: {"content": {media: {} for media in MEDIA_TYPES.values()}},
    304: {"description": "The content is what If-None-Match names."},
}


@router.get("/reports/{name}", response_class=Response, responses={**_DATA, **documented(401, 403, 404, 422, 503)})
def read_report(
    request: Request,
    caller: Reader,
    name: str,
    as_of: AsOf = None,
    run: RunId = None,
    columns: Columns = None,
    first: Annotated[Day | None, Query(alias="from", description="First day to keep.")] = None,
    last: Annotated[Day | None, Query(alias="to", description="Last day to keep, itself included.")] = None,
    format: Annotated[Format, Query(description="parquet without columns and days is the published file.")] = "json",  # noqa: A002 - the parameter's name
) -> Response:
    """A report, or some of its columns and days, streamed. The ETag follows the content, not the run."""
    selection = parse_selection(name, columns, first, last, format)
    store: Store = request.app.state.store
    manifest = store.manifest(caller, as_of=as_of, run=run)
    entry = entry_of(manifest, selection.report)
    file = store.file(caller, manifest, entry)
    etag = selection.etag(entry.sha256)
    headers = headers_of(selection, manifest, etag)
    if etag in etags_of(request):
        return Response(status_code=304, headers=headers)
    media = MEDIA_TYPES[format]
    if selection.is_whole_file:
        return FileResponse(file, media_type=media, headers=headers)
    if entry.bytes > SMALL:
        return StreamingResponse(selection.pieces(file), media_type=media, headers=headers)
    bodies = request.app.state.bodies
    body = bodies.get(etag)
    if body is None:
        body = b"".join(selection.pieces(file))
        bodies.put(etag, body)
    return Response(body, media_type=media, headers=headers)


def parse_selection(name: str, columns: str | None, first: date | None, last: date | None, form: Format) -> Selection:
    """A selection of columns and of days in order; Problem 404 or 422 says what there is.

    Which columns there are the run's file says: one of before a change of the contract has others.
    """
    report = report_of(name)
    chosen = tuple(dict.fromkeys(part.strip() for part in (columns or "").split(",") if part.strip()))
    if (first or last) and date_column(report) is None:
        raise Problem(422, f"{name} has no column of days.", remedy="Leave out `from` and `to`.")
    if first and last and first > last:
        raise Problem(422, f"from, {first}, comes after to, {last}.")
    return Selection(report, form, chosen, first, last)


def report_of(name: str) -> Report:
    """The report of that name; Problem 404."""
    if name not in BY_NAME:
        raise Problem(404, f"There is no report {name[:60]!r}.", remedy=f"The reports are {', '.join(BY_NAME)}.")
    return BY_NAME[name]


def entry_of(manifest: Manifest, report: Report) -> FileEntry:
    """The manifest's entry of a report's file; ReadError when retention has taken it, or the run had none."""
    path = path_of(report)
    if entry := manifest.file(path):
        return entry
    run = f"the run as of {manifest.as_of:%Y-%m-%d %H:%M} UTC"
    if manifest.removed and path in manifest.removed.files:
        raise ReadError(
            f"{report.name} of {run} is not kept any more.",
            remedy="Files that name user ids are kept for a time only; newer runs have it.",
        )
    raise ReadError(f"{report.name} is not in {run}: it was added later.", remedy="Newer runs have it.")


def path_of(report: Report) -> str:
    """Where a run keeps the report, below its own path."""
    return f"reports/{report.name}.parquet"


def headers_of(selection: Selection, manifest: Manifest, etag: str) -> dict[str, str]:
    """What the answer says of itself: a copy may be kept, and is asked about at each use."""
    name = selection.filename(day_of(manifest.as_of))
    return {
        "ETag": etag,
        "Cache-Control": "private, no-cache",
        "Vary": "Authorization, Cookie",
        "Content-Disposition": f'attachment; filename="{name}"' if selection.format != "json" else "inline",
        "ETL-Run": manifest.run_id,
        "ETL-As-Of": manifest.as_of.isoformat(),
    }


def etags_of(request: Request) -> set[str]:
    """The ETags that the caller has; a proxy that packs answers makes them weak."""
    given = request.headers.get("if-none-match", "")
    return {part.strip().removeprefix("W/") for part in given.split(",")}


@router.get("/reports/{name}/diff", responses=documented(401, 403, 404, 422, 503))
def diff_report(
    request: Request,
    caller: Reader,
    name: str,
    base: Annotated[str, Query(max_length=120, description="The run to compare with: an id, or a day.")],
    run: Annotated[str | None, Query(max_length=120, description="The other run; the current one by default.")] = None,
    cursor: Cursor = None,
    limit: Limit = 100,
) -> Difference:
    """Which rows a run added, removed or changed against another, by the report's keys."""
    report = report_of(name)
    runs = runs_of(cursor) if cursor else (base, run)
    return difference_of(request.app.state.store.diff(caller, name, *runs), report, cursor=cursor, limit=limit)


@router.get("/dictionary", responses=documented(401, 403))
def dictionary(caller: Reader, cursor: Cursor = None, limit: Limit = 100) -> Page[DictionaryEntry]:
    """Every report and cleaned table, column by column: type, unit, meaning."""
    entries = [
        *(_entry(r.name, "report", r.description, r.keys, report_schema(r)) for r in REPORTS),
        *(_entry(t.clean, "cleaned table", t.description, (t.key.name,), file_schema(t)) for t in TABLES),
    ]
    items, after = page_of(entries, key=lambda entry: entry.name, cursor=cursor, limit=limit)
    return Page(items=items, next=after)


def _entry(name: str, kind: str, description: str, keys: tuple[str, ...], schema: pa.Schema) -> DictionaryEntry:
    infos = [ColumnInfo(**column) for column in columns_of(schema)]
    return DictionaryEntry(name=name, kind=kind, description=description, keys=list(keys), columns=infos)
