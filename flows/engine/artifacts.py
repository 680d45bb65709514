"""Artifacts in the order in which a person reads them.

Both of Prefect's pages list a run's artifacts by their ids, which the server draws at random. So an artifact whose id
does not fall into its place is made again: each has a share of the id space, the first one the highest.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import ArtifactCreate
from prefect.context import FlowRunContext

logger = logging.getLogger(__name__)
_IDS = 2**128
_TRIES = 200


@dataclass(frozen=True, slots=True)
class Page:
    """An artifact to be: its stable key, what it is, and its content (Markdown, rows of a table, or an image's URL)."""

    key: str
    kind: Literal["markdown", "table", "image"]
    description: str
    data: Any


def show_in_order(pages: Sequence[Page]) -> None:
    """Create the artifacts of the running flow so that its page lists them in this order; nothing outside of a flow."""
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        return
    with get_client(sync_client=True) as client:
        for place, page in enumerate(pages):
            _create(client, context.flow_run.id, page, place, len(pages))


def show_report(page: str, *more: Page, key: str, description: str) -> None:
    """The page of a flow that does one thing: as `report`, first like that of every run, and under the flow's own key.

    page: Markdown that begins with the outcome in a sentence. more: what comes after it.
    """
    pages = (Page(name, "markdown", description, page) for name in ("report", key))
    show_in_order([*pages, *more])


def _create(client: SyncPrefectClient, flow_run: UUID, page: Page, place: int, places: int) -> None:
    wanted = ArtifactCreate(
        key=page.key, type=page.kind, description=page.description, data=_data(page), flow_run_id=flow_run
    )
    share = _IDS // places
    first = _IDS - (place + 1) * share
    for _ in range(_TRIES):
        made = client.create_artifact(wanted)
        if first <= made.id.int < first + share:
            return
        client.delete_artifact(made.id)
    client.create_artifact(wanted)  # an artifact out of its place is better than none
    logger.debug("The artifact %s is not in its place.", page.key)


def _data(page: Page) -> Any:
    if page.kind == "table":
        import json

        return json.dumps(page.data)
    return page.data
