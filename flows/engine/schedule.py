"""Which scheduled instant a run stands for, with which options, and what becomes of the others that are late.

After days without a worker several nightly runs are due at once, and the worker takes the oldest first; the others wait
for it. One run is enough: the first to start stands for the latest of them, and those that wait are cancelled with a
word.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TypeVar
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
from prefect.client.schemas.sorting import FlowRunSort
from prefect.states import Cancelled

from flows.engine.prefect_api import this_flow_run
from flows.forms import MAX_RESTARTS, NightlyForm, RetentionForm

logger = logging.getLogger(__name__)
LATEST = timedelta(days=31)
EARLY = timedelta(minutes=1)
F = TypeVar("F", NightlyForm, RetentionForm)
WAITING = [StateType.SCHEDULED, StateType.PENDING]


def latest_due(run: FlowRun | None = None) -> datetime | None:
    """The latest instant for which a run of its deployment was due, in UTC; None outside of a deployment's run.

    run: another one than this.
    """
    run = run or _deployed_run()
    return _stands_for(run, _late_beside(run)) if run else None


def due_instant() -> datetime | None:
    """As `latest_due`; other runs that are due and wait are cancelled, since this one stands for them."""
    run = _deployed_run()
    if run is None:
        return None
    late = _late_beside(run)
    _cancel_waiting(late, run.name)
    return _stands_for(run, late)


def once_due(due: datetime) -> datetime:
    """The instant for which a run is due; this moment for one that somebody tries again long before its time.

    Prefect's server says when a run starts. Where the clock of this machine is seconds behind that one's, a night of
    00:00 started on the day before, and made that day's reports once more: the seconds are waited out.
    """
    early = due - datetime.now(UTC)
    if early > EARLY:
        return datetime.now(UTC)
    time.sleep(max(0.0, early.total_seconds()))
    return due


def tried_again(run: FlowRun | None = None) -> bool:
    """Whether a person has a run started once more: it ran before, or was cancelled before it could.

    run: another one than this. The count of Prefect does not go up when a run that was suspended is resumed.
    """
    run = run or _deployed_run()
    if run is None or run.run_count > 1:
        return run is not None
    with _asking("The run's earlier states could not be read") as client:
        kinds = _states_of(client, run)
        return kinds.count(StateType.RUNNING) > 1 or _was_cancelled(kinds)
    return False


def as_scheduled(options: F) -> F:
    """The options of a run; one that a schedule started writes, unless the schedule itself says that it is a dry run.

    Prefect's command line and its V2 pages throw the options of a schedule away when they switch it on or off. Its runs
    then come with those of the form, which begins as a dry run: no night would ever be published again. So does what
    starts such a run again after a crash.
    """
    if not options.dry_run or not _schedule_lost_its_options():
        return options
    return options.model_copy(update={"dry_run": False})


def _schedule_lost_its_options() -> bool:
    """Whether a schedule started this run, or the one that it restarts, that has no options of its own."""
    run = this_flow_run()
    if run is None or run.deployment_id is None or not (run.auto_scheduled or _restarts(run)):
        return False
    with _asking("The schedule could not be looked at") as client:
        first = [run, *_crashed_before(client, _restarts(run))][-1]
        if first.auto_scheduled:
            schedules = client.read_deployment_schedules(run.deployment_id)
            by = first.created_by.id if first.created_by else None
            return not any("options" in of.parameters for of in schedules if by in (None, of.id))
    return False


def _restarts(run: FlowRun) -> str:
    """The id of the crashed run that a run restarts; empty where it restarts none."""
    return str((run.parameters.get("options") or {}).get("restart_of") or "")


def tries_before(crashed: str) -> list[FlowRun]:
    """The crashed run of this id and those that it restarted, the first try last; empty where nobody says."""
    if crashed:
        with _asking("The tries before this one could not be read") as client:
            return _crashed_before(client, crashed)
    return []


def _crashed_before(client: SyncPrefectClient, crashed: str) -> list[FlowRun]:
    runs: list[FlowRun] = []
    while crashed and len(runs) < MAX_RESTARTS:
        runs.append(client.read_flow_run(UUID(crashed)))
        crashed = _restarts(runs[-1])
    return runs


def plain(instant: datetime) -> datetime:
    """A plain datetime in UTC. Prefect hands its instants over as pendulum's, whose arithmetic differs."""
    utc = instant.astimezone(UTC)
    return datetime(utc.year, utc.month, utc.day, utc.hour, utc.minute, utc.second, utc.microsecond, tzinfo=UTC)


def crashed_run() -> str:
    """The id of the flow run of this deployment that crashed last: what a restart takes over. Empty when unknown."""
    run = this_flow_run()
    if run is None or run.deployment_id is None:
        return ""
    with _asking("The crashed run could not be looked for") as client:  # else the last failed run is resumed
        found = client.read_flow_runs(
            deployment_filter=_of_deployment(run.deployment_id),
            flow_run_filter=FlowRunFilter(
                state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.CRASHED]))
            ),
            sort=FlowRunSort.END_TIME_DESC,
            limit=1,
        )
        return str(found[0].id) if found else ""
    return ""


def earlier_restart(crashed: str) -> str:
    """The name of an earlier run that restarts the same crashed run; empty when there is none, or none is named.

    An automation can fire twice for one crash, when the server's database was locked while it did.
    """
    run = this_flow_run()
    if not crashed or run is None or run.deployment_id is None or run.created is None:
        return ""
    own = (run.created, run.id)
    with _asking("Other restarts could not be looked for") as client:  # the lease lets only one of them through anyway
        found = client.read_flow_runs(
            deployment_filter=_of_deployment(run.deployment_id), sort=FlowRunSort.EXPECTED_START_TIME_DESC, limit=100
        )
        twins = [other for other in found if _restarts(other) == crashed]
        return next((other.name for other in twins if other.created and (other.created, other.id) < own), "")
    return ""


@contextmanager
def _asking(trouble: str) -> Iterator[SyncPrefectClient]:
    """A client for the block, which ends where the server cannot be asked. That is logged, and the night goes on."""
    try:
        with get_client(sync_client=True) as client:
            yield client
    except Exception as error:  # noqa: BLE001 - whatever the server's trouble is
        logger.warning("%s: %s.", trouble, type(error).__name__)


def _of_deployment(deployment: UUID) -> DeploymentFilter:
    return DeploymentFilter(id=DeploymentFilterId(any_=[deployment]))


def _deployed_run() -> FlowRun | None:
    """The run of a deployment that this process is."""
    run = this_flow_run()
    return run if run and run.deployment_id and run.expected_start_time else None


def _late_beside(run: FlowRun) -> list[FlowRun]:
    """The other scheduled runs that are due and never started.

    None for a late one that was cancelled and that a person tries again: that is about its own day. None from a server
    that cannot be asked, either: the run's own scheduled time stands.
    """
    if not run.auto_scheduled or run.deployment_id is None:
        return []
    with _asking("Late runs could not be looked for") as client:
        others = [other for other in _never_begun(client, run.deployment_id) if other.id != run.id]
        return [] if others and _was_cancelled(_states_of(client, run)) else others
    return []


def _states_of(client: SyncPrefectClient, run: FlowRun) -> list[StateType]:
    """What a run has been in, in order; the last one is that of now."""
    return [state.type for state in sorted(client.read_flow_run_states(run.id), key=lambda state: state.timestamp)]


def _was_cancelled(kinds: list[StateType]) -> bool:
    """Whether a run was cancelled before it ever started."""
    return next((k for k in kinds if k in (StateType.RUNNING, StateType.CANCELLED)), None) == StateType.CANCELLED


def _never_begun(client: SyncPrefectClient, deployment: UUID) -> list[FlowRun]:
    """Scheduled runs of a deployment whose time has come, and that never ran."""
    now = datetime.now(UTC)
    found = client.read_flow_runs(
        deployment_filter=_of_deployment(deployment),
        flow_run_filter=FlowRunFilter(
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[*WAITING, StateType.CANCELLED])),
            expected_start_time=FlowRunFilterExpectedStartTime(after_=now - LATEST, before_=now),
        ),
        limit=200,
    )
    return [run for run in found if run.auto_scheduled and run.run_count == 0]


def _cancel_waiting(runs: list[FlowRun], name: str) -> None:
    waiting = [run for run in runs if run.state_type in WAITING]
    if not waiting:
        return
    with _asking("Late runs could not be cancelled") as client:
        for run in waiting:
            client.set_flow_run_state(run.id, Cancelled(message=f"Late: the run {name} stands for it."), force=True)
            logger.info("Run %s was late too; this one stands for it.", run.name)


def _stands_for(run: FlowRun, late: list[FlowRun]) -> datetime:
    return max(_expected(one) for one in (run, *late))


def _expected(run: FlowRun) -> datetime:
    return plain(run.expected_start_time) if run.expected_start_time else datetime.min.replace(tzinfo=UTC)
