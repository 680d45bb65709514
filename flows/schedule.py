"""Which scheduled instant a run stands for, and what becomes of the others that are late.

After days without a worker several nightly runs are due at once, and the worker takes the oldest first. One run is
enough: the first to start stands for the latest of them, and the others are cancelled with a word.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import UTC, datetime
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.context import FlowRunContext
from prefect.states import Cancelled

logger = logging.getLogger(__name__)


def due_instant() -> datetime | None:
    """The latest instant for which a run of this deployment was due, in UTC; None outside of a scheduled run.

    Other runs that are due and have not started are cancelled. A server that cannot be asked changes nothing: the
    run's own scheduled time stands.
    """
    context = FlowRunContext.get()
    run = context.flow_run if context else None
    if run is None or run.deployment_id is None or run.expected_start_time is None:
        return None
    own = run.expected_start_time.astimezone(UTC)
    if not run.auto_scheduled:
        return own
    try:
        with get_client(sync_client=True) as client:
            return max([own, *_collapse(client, run.id, run.deployment_id, run.name)])
    except Exception as error:  # noqa: BLE001 - whatever the server's trouble is, the night must go on
        logger.warning("Late runs could not be looked for: %s.", type(error).__name__)
        return own


def _collapse(client: SyncPrefectClient, own: UUID, deployment: UUID, name: str) -> Iterable[datetime]:
    """Cancel the other runs that are due; yields the instants for which they were."""
    for other in _due(client, deployment):
        if other.id == own or not other.auto_scheduled or other.expected_start_time is None:
            continue
        message = f"Late: the run {name} stands for this one too."
        client.set_flow_run_state(other.id, Cancelled(message=message), force=True)
        logger.info("Run %s was late too; this one stands for it.", other.name)
        yield other.expected_start_time.astimezone(UTC)


def _due(client: SyncPrefectClient, deployment: UUID) -> list[FlowRun]:
    """Runs of a deployment whose time has come and that have not begun."""
    return client.read_flow_runs(
        deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[deployment])),
        flow_run_filter=FlowRunFilter(
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED, StateType.PENDING])),
            expected_start_time=FlowRunFilterExpectedStartTime(before_=datetime.now(UTC)),
        ),
        limit=200,
    )
