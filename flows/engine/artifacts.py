"""Artifacts in the order in which a person reads them.

Both of Prefect's pages list a run's artifacts by their ids, which the server draws at random. So an artifact whose id
does not fall into its place is made again until it does. Each goes below the one before it and leaves room for those
after it: about n² requests for n artifacts, so that those whose order means nothing to a person come last, in any.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

from flows.engine.prefect_api import this_flow_run

logger = logging.getLogger(__name__)
EARLIER = "> **Of an earlier try.** This run was tried again: the last try has a `report` without this line."
_IDS = 2**128
_TRIES = 200
_SOON = 0.1  # seconds
_PRINTED: ContextVar[list[str] | None] = ContextVar("printed", default=None)


@dataclass(frozen=True, slots=True)
class Page:
    """An artifact to be: its stable key, what it is, and its content (Markdown, rows of a table, or an image's URL)."""

    key: str
    kind: Literal["markdown", "table"]
    description: str
    data: Any


def show_in_order(pages: Sequence[Page], more: Sequence[Page] = ()) -> None:
    """Create the artifacts of the running flow so that its page lists `pages` in this order and `more` below them.

    Nothing outside of a flow.
    """
    run = this_flow_run()
    if run is None:
        return
    with get_client(AGAIN_SOON, sync_client=True) as client:
        if run.run_count > 1:
            _mark_earlier(client, run.id)
        above = _IDS
        for left, page in zip(range(len(pages), 0, -1), pages, strict=True):
            above = _create(client, run.id, page, above, _floor(above, left, len(more)))
        for page in more:
            _create(client, run.id, page, above, 0)


def _mark_earlier(client: SyncPrefectClient, flow_run: UUID) -> None:
    """What the page has before, as of a run that was tried again, says that it is of an earlier try."""
    mine = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run]))
    for artifact in client.read_artifacts(flow_run_filter=mine):
        text = artifact.data
        if artifact.type == "markdown" and isinstance(text, str) and not text.startswith(EARLIER):
            client.update_artifact(artifact.id, ArtifactUpdate(data=f"{EARLIER}\n\n{text}"))


def _floor(above: int, left: int, more: int) -> int:
    """The lowest id for the first of `left` artifacts that have to go below `above` in their order, and `more` in any.

    It may take the upper part of the room: a larger part is found sooner and leaves less for the others. The sum of
    all tries is about the least with 1.5 / n of it for n in their order; one of `more` needs some 0.6 of such a place.
    """
    share = 1.5 / (left + 0.6 * more)
    return above - int(above * share) if share < 1 and left + more > 1 else 0


def show_report(page: str, *more: Page, key: str, description: str) -> None:
    """The page of a flow that does one thing: as `report`, first like that of every run, and under the flow's own key.

    page: Markdown that begins with the outcome in a sentence. more: what comes after it.
    """
    if (printed := _PRINTED.get()) is not None:
        printed.append(page)
    pages = (Page(name, "markdown", description, page) for name in ("report", key))
    show_in_order([*pages, *more])


@contextmanager
def reports_kept() -> Iterator[list[str]]:
    """The Markdown of each `show_report` inside the block, in order: for a command, which prints it."""
    kept: list[str] = []
    token = _PRINTED.set(kept)
    try:
        yield kept
    finally:
        _PRINTED.reset(token)


def _create(client: SyncPrefectClient, flow_run: UUID, page: Page, above: int, floor: int) -> int:
    """Create an artifact whose id, as a number, lies from `floor` to below `above`. Returns the id."""
    for _ in range(_TRIES):
        made = _create_once(client, flow_run, page)
        if floor <= made.int < above:
            return made.int
        client.delete_artifact(made)
    logger.debug("The artifact %s is not in its place.", page.key)  # which is better than none
    return min(_create_once(client, flow_run, page).int, above)


def _create_once(client: SyncPrefectClient, flow_run: UUID, page: Page) -> UUID:
    """Without the event that the client's own method emits for each artifact."""
    data = json.dumps(page.data) if page.kind == "table" else page.data
    wanted = ArtifactCreate(key=page.key, type=page.kind, description=page.description, data=data, flow_run_id=flow_run)
    answer = client.request("POST", "/artifacts/", json=wanted.model_dump(mode="json", exclude_unset=True))
    return UUID(answer.json()["id"])


def _again_soon(response: httpx.Response) -> None:
    """A server on SQLite answers 503 when something else was written at that moment. Prefect's client waits two seconds
    then, or more; here it asks again soon once, and then as patiently as it does."""
    extensions = response.request.extensions
    if response.status_code == httpx.codes.SERVICE_UNAVAILABLE and not extensions.get("asked_again"):
        extensions["asked_again"] = True
        response.headers.setdefault("Retry-After", str(_SOON))


AGAIN_SOON: dict[str, Any] = {"event_hooks": {"response": [_again_soon]}}  # of a client of Prefect's
