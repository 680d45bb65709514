"""The pages: overview, reports, comparison, data quality, runs. Each asks under the caller's own token."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Query, Request
from fastapi.responses import RedirectResponse, Response

from api.ledger import is_over
from api.problems import Problem, of_error
from api.routes.auth import safe_path
from api.routes.reports import BY_NAME, etags_of, path_of, report_of
from api.session import Reader, anyone
from api.site import quality as quality_page
from api.site.charts import CHARTS, DRAWING, OVERVIEW, QUALITY, ChartDef, spec_of
from api.site.comparing import comparison, headline
from api.site.context import LINKS, Travel, link_of, page, parsed_day, sign_in_page, travel_of
from api.site.figures import tiles
from api.site.formats import whole
from api.site.runs import choices, run_before, run_views
from api.site.tables import Query as TableQuery
from api.site.tables import view
from api.tokens import Caller
from tasks.contracts import REPORTS
from tasks.errors import PipelineError, ReadError
from tasks.files.manifest import Manifest

router = APIRouter(include_in_schema=False)

Text = Annotated[str | None, Query(max_length=200)]


@router.get("/sign-in")
def sign_in(request: Request, next: Annotated[str, Query(max_length=2_000)] = "/") -> Response:  # noqa: A002
    """The form; who is signed in already goes on."""
    path = safe_path(next)
    try:
        is_signed_in = anyone(request) is not None
    except Problem as problem:
        if problem.status != 401:
            raise
        is_signed_in = False  # by a password of a proxy's, or a token that is none: answered by the form all the same
    return RedirectResponse(path, 303) if is_signed_in else sign_in_page(request, next_path=path)


@router.get("/")
def overview(request: Request, caller: Reader, as_of: Text = None, run: Text = None) -> Response:
    """The headline figures of a run, how they moved, and its reports."""
    try:
        manifest, travel = _open(request, caller, as_of, run)
    except PipelineError as error:
        return page(request, "overview.html", caller, "overview", problem=_problem_of(error))
    store = request.app.state.store
    names = ("user_statistics", "daily_activity", "data_quality")
    stats, daily, rules = (store.frame(caller, manifest, name) for name in names)
    listed = [_listed(manifest, link.name) for link in LINKS]
    return page(
        request,
        "overview.html",
        caller,
        "overview",
        travel=travel,
        tiles=tiles(stats, daily, rules, manifest.as_of),
        figures=[_figure("daily_activity", chart, manifest) for chart in OVERVIEW],
        listed=listed,
        run_id=manifest.run_id,
        follow_run=None if travel.is_past else manifest.run_id,
    )


def _listed(manifest: Manifest, name: str) -> dict[str, Any]:
    entry, link = manifest.file(path_of(BY_NAME[name])), link_of(BY_NAME[name])
    facts = {"name": name, "title": link.title, "description": link.description}
    return {**facts, "rows": whole(entry.rows) if entry else "–", "available": entry is not None}


@router.get("/explore/{name}")
def explore(
    request: Request,
    caller: Reader,
    name: str,
    as_of: Text = None,
    run: Text = None,
    q: Annotated[str, Query(max_length=100)] = "",
    first: Annotated[str | None, Query(alias="from", max_length=10)] = None,
    last: Annotated[str | None, Query(alias="to", max_length=10)] = None,
    sort: Annotated[str, Query(max_length=60)] = "",
    number: Annotated[int, Query(alias="page", ge=1, le=1_000_000)] = 1,
) -> Response:
    """A report: its charts, its rows to sort, filter and download, and what its columns mean."""
    report = report_of(name)
    try:
        manifest, travel = _open(request, caller, as_of, run)
        table = request.app.state.store.table(caller, manifest, name)
    except PipelineError as error:
        return page(request, "report.html", caller, name, report=link_of(report), problem=_problem_of(error))
    days = parsed_day(first), parsed_day(last)
    query = TableQuery(f"/explore/{name}", manifest.run_id, q.strip(), *days, sort, number, travel.chosen)
    figures = [_figure(name, chart, manifest) for chart in CHARTS.get(name, ())]
    rows = view(table, report, query)
    return page(
        request, "report.html", caller, name, report=link_of(report), travel=travel, figures=figures, table=rows
    )


def _figure(report: str, chart: ChartDef, manifest: Manifest) -> dict[str, Any]:
    url = f"/explore/{report}/charts/{chart.name}.json?run={manifest.run_id}"
    return {"title": chart.title, "about": chart.about, "wide": chart.wide, "by_day": chart.by_day, "url": url}


@router.get("/explore/{name}/charts/{chart}.json")
def chart_spec(request: Request, caller: Reader, name: str, chart: str, run: Text = None) -> Response:
    """A chart's specification with its rows, for the page's script."""
    found = next((one for one in CHARTS.get(name, ()) if one.name == chart), None)
    if found is None:
        raise Problem(404, "There is no such chart.")
    store = request.app.state.store
    manifest = store.manifest(caller, run=run)
    frame = store.frame(caller, manifest, name)  # also verifies that this caller may have it
    entry = manifest.file(path_of(BY_NAME[name]))
    etag = f'"chart-{chart}-{DRAWING}-{entry.sha256[:32]}"'
    return _spec(request, etag, lambda: spec_of(found, frame))


def _spec(request: Request, etag: str, make: Any) -> Response:
    headers = {"ETag": etag, "Cache-Control": "private, no-cache", "Vary": "Cookie, Authorization"}
    if etag in etags_of(request):
        return Response(status_code=304, headers=headers)
    bodies = request.app.state.bodies
    body = bodies.get(etag)
    if body is None:
        body = orjson.dumps(make(), option=orjson.OPT_SERIALIZE_NUMPY)
        bodies.put(etag, body)
    return Response(body, media_type="application/json", headers=headers)


@router.get("/compare")
def compare(request: Request, caller: Reader, report: Text = None, base: Text = None, run: Text = None) -> Response:
    """Two runs side by side: of a report what was added, removed and changed, and the headline figures."""
    declared = report_of(report or "daily_activity")
    runs = choices(request, caller)
    facts: dict[str, Any] = {"report": link_of(declared), "runs": runs, "base": base, "run": run, "headline": []}
    if len(runs) < 2:
        return page(request, "compare.html", caller, "compare", **facts)
    facts["run"] = run = run or runs[0]["id"]
    facts["base"] = base = base or run_before([one["id"] for one in runs], run)
    labels = {one["id"]: one["short"] for one in runs}
    facts.update(base_label=labels.get(base, base), run_label=labels.get(run, run))
    try:
        store = request.app.state.store
        facts["diff"] = comparison(store.diff(caller, declared.name, base, run), declared)
        frames = [store.frame(caller, store.chosen(caller, one), "user_statistics") for one in (base, run)]
        facts["headline"] = headline(*frames)
    except PipelineError as error:
        facts["problem"] = _problem_of(error)
    return page(request, "compare.html", caller, "compare", **facts)


@router.get("/quality")
def quality(request: Request, caller: Reader, as_of: Text = None, run: Text = None) -> Response:
    """Data quality now and over time, with what each rule means."""
    try:
        manifest, travel = _open(request, caller, as_of, run)
        store = request.app.state.store
        now, before = store.frame(caller, manifest, "data_quality"), quality_page.before(store, caller, manifest)
    except PipelineError as error:
        return page(request, "quality.html", caller, "quality", problem=_problem_of(error))
    chart = {**_figure("data_quality", QUALITY, manifest), "url": f"/quality/history.json?run={manifest.run_id}"}
    figures = [chart, *(_figure("data_quality", one, manifest) for one in CHARTS["data_quality"])]
    groups = quality_page.groups(now, before)
    return page(request, "quality.html", caller, "quality", travel=travel, figures=figures, groups=groups)


@router.get("/quality/history.json")
def quality_history(request: Request, caller: Reader, run: Text = None) -> Response:
    """The chart of data quality over runs."""
    frame = request.app.state.store.history(caller, "data_quality")
    runs = hashlib.sha256(repr(sorted(frame.attrs["runs"].items())).encode())  # as many rows may be those of other runs
    etag = f'"quality-{DRAWING}-{runs.hexdigest()[:32]}"'
    return _spec(request, etag, lambda: spec_of(QUALITY, frame))


@router.get("/history")
def history(request: Request, caller: Reader, cursor: Annotated[str | None, Query(max_length=500)] = None) -> Response:
    """The runs of the ledger."""
    rows, after = request.app.state.ledger.page(caller, cursor=cursor, limit=50)
    current = request.app.state.ledger.current(caller)
    prefect = request.app.state.prefect
    shown = run_views(rows, prefect, current)
    return page(request, "history.html", caller, "history", runs=shown, next=after, prefect_is_set=prefect.is_set)


@router.get("/history/{run_id}")
def history_of(request: Request, caller: Reader, run_id: str) -> Response:
    """One run: how it went, stage by stage."""
    ledger, prefect = request.app.state.ledger, request.app.state.prefect
    row = ledger.find(caller, run_id)
    (shown,) = run_views([row], prefect, ledger.current(caller))
    return page(request, "run.html", caller, "history", run={**shown, "is_over": is_over(row)})


@router.get("/pulse")
def pulse(request: Request, caller: Reader) -> dict[str, str | None]:
    """Which run readers see: what an open page asks every few seconds."""
    try:
        return {"run": request.app.state.store.manifest(caller).run_id}
    except ReadError:
        return {"run": None}


def _open(request: Request, caller: Caller, as_of: str | None, run: str | None) -> tuple[Manifest, Travel]:
    """The run that is asked for, and the words about it."""
    store = request.app.state.store
    manifest = store.manifest(caller, as_of=as_of or None, run=None if as_of else run or None)
    latest = manifest if not (as_of or run) else _latest(store, caller)
    return manifest, travel_of(
        manifest,
        store.days(caller),
        _committed_at(request, caller, manifest),
        latest=latest is not None and latest.run_id == manifest.run_id,
        chosen=(("as_of", as_of),) if as_of else (("run", run),) if run else (),
    )


def _latest(store: Any, caller: Caller) -> Manifest | None:
    try:
        found: Manifest = store.manifest(caller)
    except ReadError:
        return None
    return found


def _committed_at(request: Request, caller: Caller, manifest: Manifest) -> datetime | None:
    try:
        row = request.app.state.ledger.find(caller, manifest.run_id)
    except (PipelineError, Problem):
        return None
    finished: datetime | None = row.finished_at
    return finished


def _problem_of(error: PipelineError) -> Problem:
    """What a page says in place of its figures; what concerns the account or the project is answered as a whole."""
    problem = of_error(error)
    if problem.status not in (404, 422):
        raise problem
    return problem


__all__ = ["REPORTS", "router"]
