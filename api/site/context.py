"""What every page needs: the templates, who looks, which run, and the words about how fresh it is."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from fastapi import Request
from fastapi.responses import HTMLResponse, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from api.problems import Problem, body_of
from api.session import clear_cookies
from api.site.formats import ago, day_words, instant, title, whole
from api.tokens import Caller
from tasks.contracts import REPORTS, Report
from tasks.files.layout import day_of
from tasks.files.manifest import Manifest

HERE = Path(__file__).parent
STATIC = HERE.parent / "static"
SITE_NAME = "Nightly reports"
LATE = timedelta(hours=26)


def environment() -> Environment:
    """The templates; what they print is escaped, and a name that is not there is an error."""
    made = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(utc=instant, ago=ago, count=whole, in_page=_in_page)
    made.globals.update(static=static, site_name=SITE_NAME)
    return made


def _in_page(remedy: str) -> str:
    """What to do, for a person who has pages and no routes."""
    return remedy.replace("GET /runs", "The page Runs")


def static(path: str) -> str:
    """The address of a file of ours, with its content's hash, so that a browser may keep it for good."""
    file = (STATIC / path).stat()
    return _address(path, file.st_mtime_ns, file.st_size)


@cache
def _address(path: str, _changed: int, _size: int) -> str:
    """Made once for each content: an update may lay another one there while the site goes on."""
    return f"/static/{path}?v={hashlib.sha256((STATIC / path).read_bytes()).hexdigest()[:12]}"


@dataclass(frozen=True, slots=True)
class ReportLink:
    """A report as pages name it."""

    name: str
    title: str
    description: str
    columns: tuple[Any, ...]


def link_of(report: Report) -> ReportLink:
    return ReportLink(report.name, title(report.name), report.description, report.columns)


LINKS = [link_of(report) for report in REPORTS]


@dataclass(frozen=True, slots=True)
class Travel:
    """Which day is shown, how one gets to others, and how fresh it is."""

    day: str
    first: str
    last: str
    earlier: str
    later: str
    is_past: bool
    kind: str
    sentence: str
    note: str
    chosen: tuple[tuple[str, str], ...]


def travel_of(
    manifest: Manifest,
    days: list[str],
    committed_at: datetime | None,
    *,
    latest: bool,
    chosen: tuple[tuple[str, str], ...],
) -> Travel:
    """days: those that have runs, latest first. chosen: how the run was asked for; empty for the latest."""
    day, now = day_of(manifest.as_of), datetime.now(UTC)
    late = latest and committed_at is not None and now - committed_at > LATE
    return Travel(
        day=day,
        first=min([*days, day]),
        last=max([*days, day]),
        earlier=max((d for d in days if d < day), default=""),
        later=min((d for d in days if d > day), default=""),
        is_past=not latest,
        kind="past" if not latest else "late" if late else "fresh",
        sentence=_freshness(manifest, committed_at, now),
        note=(manifest.note or "") if manifest.historical else "",
        chosen=chosen,
    )


def _freshness(manifest: Manifest, committed_at: datetime | None, now: datetime) -> str:
    """As of yesterday midnight, committed today 03:04."""
    as_of, today = manifest.as_of, now.date()
    if as_of.time().isoformat() == "00:00:00":
        words = day_words(as_of.date() - timedelta(days=1), today)
        said = f"Whole days through {words} (as of midnight UTC)"
    else:
        said = f"As of {day_words(as_of.date(), today)}, {as_of:%H:%M} UTC: its last day is not over"
    if committed_at is None:
        return f"{said}."
    at = committed_at.astimezone(UTC)
    return f"{said}, committed {day_words(at.date(), today)} at {at:%H:%M} UTC, {ago(at, now)}."


def past_query(travel: Travel | None) -> str:
    """What links carry along so that one stays on the run that was picked: a day may have others."""
    return f"?{urlencode(travel.chosen)}" if travel and travel.is_past else ""


def page(request: Request, template: str, caller: Caller, here: str, **facts: Any) -> Response:
    """A page in the site's frame."""
    travel: Travel | None = facts.get("travel")
    context = {
        "caller": caller,
        "here": here,
        "reports": LINKS,
        "past": past_query(travel),
        "charts": bool(facts.get("figures")),
        "follow_run": None,
        "problem": None,
        "travel": None,
        **facts,
    }
    return _html(request, template, 200, context)


def _html(request: Request, template: str, status: int, context: dict[str, Any]) -> HTMLResponse:
    text = request.app.state.templates.get_template(template).render(context)
    return HTMLResponse(text, status, headers={"Cache-Control": "private, no-store", "Vary": "Cookie"})


HEADINGS = {401: "Sign in first", 403: "Not for this account", 404: "Not found", 429: "Too many tries"}


def problem_page(request: Request, problem: Problem) -> Response:
    """A problem for a person in a browser; who is not signed in is sent to sign in and comes back."""
    path = request.url.path
    if path == "/auth/sign-in" and problem.status in (401, 422, 429):
        path, email = getattr(request.state, "tried", ("/", ""))
        return sign_in_page(request, next_path=path, email=email, problem=problem)
    if problem.status == 401 and request.method == "GET":
        clear_cookies(request)  # of a session that the project has refused: the form would send back here
        there = f"{path}?{request.url.query}" if request.url.query else path
        return Response(status_code=303, headers={"Location": f"/sign-in?next={quote(there, safe='')}"})
    context = {
        "problem": body_of(request, problem),
        "heading": HEADINGS.get(problem.status, "This did not work"),
        "back": "/sign-in" if problem.status == 401 else "/",
        "signed_in": problem.status == 403,
    }
    answer = _html(request, "problem.html", problem.status, context)
    answer.headers.update(problem.headers)
    return answer


def sign_in_page(
    request: Request, *, next_path: str = "/", email: str = "", problem: Problem | None = None
) -> Response:
    """The form; after a wrong try with what was wrong."""
    project = request.app.state.settings.project
    context = {"next": next_path, "email": email, "problem": problem, "project": project}
    answer = _html(request, "sign_in.html", problem.status if problem else 200, context)
    answer.headers.update(problem.headers if problem else {})
    return answer


def parsed_day(text: str | None) -> date | None:
    """A day from a form's field; an empty field is none. Problem 422."""
    if not text:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise Problem(422, f"{text[:20]!r} is no day.", remedy="A day looks like 2026-01-31.") from None
