"""The automations of the project, declared: what Prefect's server does by itself, whether a worker lives or not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast
from uuid import UUID

import httpx
from prefect.automations import Automation
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ActionTypes, ChangeFlowRunState, DoNothing, RunDeployment, SendNotification
from prefect.events.schemas.automations import Automation as Saved
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.exceptions import PrefectHTTPStatusError

from flows.engine.outcome import COMMITTED_EVENT, DRIFTED_EVENT

TAG = "supabase-nightly"
ANY_RUN = {"prefect.resource.id": "prefect.flow-run.*"}
# Whoever suspends a run ends its process, and may resume it days later.
STATES = ("Completed", "Failed", "Crashed", "Cancelled", "TimedOut", "Held", "Suspended")
ENDED = {f"prefect.flow-run.{state}" for state in STATES}
HEARTBEAT = "prefect.flow-run.heartbeat"
# Three beats of Prefect's default of 180 s, and one more for a busy machine.
SILENCE = timedelta(minutes=12)
RESTART_AFTER = timedelta(minutes=3)  # longer than the lease, so that the dead run's has ended
NIGHT_AND_A_BIT = timedelta(hours=26)
# Names of today, and those of the first releases: each of these would do, and say, the same beside ours.
FORMER_NAMES = {
    "any flow: an unresponsive run has crashed": "any flow: a run that is silent has crashed",
    "nightly: notify of failed, held, crashed and late runs": "nightly: tell of failed, held, crashed and late runs",
    "nightly: notify when no run was committed for 26 hours": "nightly: tell when none has completed for 26 hours",
    "other flows: notify of failed and crashed runs": "other flows: tell of failed and crashed runs",
}

# The crashed run's own options, counted up, with the as_of that it had: the ledger knows it. The form bounds `restart`,
# so the server refuses the third; `restart_of` lets a second restart of the same crash see that it is one too many.
# A run with a parameter that the flow does not have dies of it before it begins: its restart is refused as a third is.
OPTIONS_AGAIN = (
    "{% set was = flow_run.parameters.get('options') or {} %}"
    "{% set step = 1 if flow_run.parameters | list in ([], ['options']) else 3 %}"
    "{{ dict(was, restart=was.get('restart', 0) + step, restart_of=flow_run.id | string, as_of='resume') | tojson }}"
)
WHERE = "Flow: {{ flow.name }}\nRun: {{ flow_run.name }}, {{ flow_run.state.name }}\n{{ flow_run|ui_url }}\n\n"
NEXT_STEPS = (
    "Failed: the artifact `failure` of that page says what happened, what was written and what to do.\n"
    "Held: a metric is outside its bounds. Look at it; start `nightly` with its name under *Accept held metrics*.\n"
    "Crashed: nightly starts again by itself, at most twice; after that start it with *As of* = resume.\n"
    "Late: no worker takes runs from the pool nightly-pool: start one.\n"
    "In doubt start `doctor`."
)


@dataclass(frozen=True)
class Targets:
    """What automations refer to: deployments by name, and the notification blocks, none when nobody is notified."""

    deployments: dict[str, UUID]
    blocks: tuple[UUID, ...] = ()


def planned(targets: Targets) -> Iterator[Automation]:
    """Every automation of the project, as it should be."""
    nightly = targets.deployments["nightly"]
    yield _restart(nightly)
    yield _zombies()
    yield _notify(
        targets,
        "nightly: notify of failed, held, crashed and late runs",
        _when({f"prefect.flow-run.{s}" for s in ("Failed", "Held", "Crashed", "TimedOut", "Late")}, nightly),
        ("{{ flow.name }} {{ flow_run.state.name }}", WHERE + NEXT_STEPS),
    )
    others = [id_ for name, id_ in targets.deployments.items() if name != "nightly"]
    yield _notify(
        targets,
        "other flows: notify of failed and crashed runs",
        _when({f"prefect.flow-run.{s}" for s in ("Failed", "Crashed")}, *others),
        ("{{ flow.name }} {{ flow_run.state.name }}", WHERE + NEXT_STEPS),
    )
    yield _drift_notice(targets, nightly)
    yield _notify(
        targets,
        "nightly: notify when no run was committed for 26 hours",
        _absent(),
        (
            "no run was committed for 26 hours",
            "Readers see an old run; dry runs and backfills do not count. Is a worker running, and the schedule "
            "active? Start `doctor`.",
        ),
    )


def _drift_notice(targets: Targets, nightly: UUID) -> Automation:
    return _notify(
        targets,
        "nightly: notify when a full night found drifted rows",
        _drifted(nightly),
        (
            "a full night found rows that had drifted",
            "What incremental nights carried was not what is there; the full night put it right, and its page says how "
            "many. Did somebody write to the pipeline's tables? If not, please report it: docs/incremental.md.",
        ),
    )


def _drifted(nightly: UUID) -> EventTrigger:
    """The audit of a full night found something."""
    return EventTrigger(
        expect={DRIFTED_EVENT},
        match={"prefect.resource.id": "supabase-nightly.run.*"},
        match_related=_of(nightly),
        posture=Posture.Reactive,
        threshold=1,
    )


def _restart(nightly: UUID) -> Automation:
    again = {"__prefect_kind": "json", "value": {"__prefect_kind": "jinja", "template": OPTIONS_AGAIN}}
    return Automation(
        name="nightly: start again after a crash",
        description="At most twice, with the as_of of the run that crashed. A run that failed is not started again.",
        tags=[TAG],
        trigger=_when({"prefect.flow-run.Crashed"}, nightly),
        actions=[RunDeployment(deployment_id=nightly, parameters={"options": again}, schedule_after=RESTART_AFTER)],
    )


def _zombies() -> Automation:
    return Automation(
        name="any flow: an unresponsive run has crashed",
        description="Its process or machine died: no heartbeat for 12 minutes.",
        tags=[TAG],
        trigger=EventTrigger(
            after={HEARTBEAT},
            expect={HEARTBEAT, *ENDED},
            match=ANY_RUN,
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=SILENCE,
        ),
        actions=[ChangeFlowRunState(state=StateType.CRASHED, name="Crashed", message="No heartbeat for 12 minutes.")],
    )


def _notify(targets: Targets, name: str, trigger: EventTrigger, words: tuple[str, str]) -> Automation:
    subject = f"supabase-nightly: {words[0]}"
    actions: list[ActionTypes] = [
        SendNotification(block_document_id=block, subject=subject, body=words[1]) for block in targets.blocks
    ]
    without = "" if actions else " Nobody is notified yet: set ETL_ALERT_SLACK_WEBHOOK or ETL_ALERT_EMAIL."
    return Automation(
        name=name,
        description=f"Notifies someone, with what to do.{without}",
        tags=[TAG],
        trigger=trigger,
        actions=actions or [DoNothing()],
    )


def _when(events: set[str], *deployments: UUID) -> EventTrigger:
    return EventTrigger(
        expect=events, match=ANY_RUN, match_related=_of(*deployments), posture=Posture.Reactive, threshold=1
    )


def _absent() -> EventTrigger:
    """No event of a commit: what a dry, held or historical run would satisfy is no night."""
    return EventTrigger(
        expect={COMMITTED_EVENT},
        match={"prefect.resource.id": "supabase-nightly.run.*"},
        posture=Posture.Proactive,
        threshold=1,
        within=NIGHT_AND_A_BIT,
    )


def _of(*deployments: UUID) -> dict[str, Any]:
    return {
        "prefect.resource.role": "deployment",
        "prefect.resource.id": [f"prefect.deployment.{deployment}" for deployment in deployments],
    }


def save(automation: Automation) -> bool:
    """Make it, or bring the one of its name up to date; True when something changed.

    It is off where it takes the place of one that somebody had switched off. One that is as it should be is left alone:
    an update would restart the hours that it counts.
    """
    with get_client(sync_client=True) as client:
        wanted = AutomationCore(**automation.model_dump(exclude={"id", "owner_resource"}))
        if not client.read_automations_by_name(automation.name):
            if former := FORMER_NAMES.get(automation.name):
                wanted.enabled = all(found.enabled for found in client.read_automations_by_name(former))
            client.create_automation(wanted)
            _only(client, automation.name)  # somebody else may set this server up at the same moment
            return True
        found, had_more = _only(client, automation.name)
        if _shape(found) == _shape(wanted):
            return had_more
        client.update_automation(found.id, wanted)
        return True


def _only(client: SyncPrefectClient, name: str) -> tuple[Saved, bool]:
    """The automation of that name, the same one to everybody, and whether there were others, which are deleted."""
    first, *extras = sorted(client.read_automations_by_name(name), key=lambda found: str(found.id))
    _delete(client, extras)
    return first, bool(extras)


def remove_former() -> None:
    """Delete those that an earlier release made under another name."""
    with get_client(sync_client=True) as client:
        for name in FORMER_NAMES.values():
            _delete(client, client.read_automations_by_name(name))


def _delete(client: SyncPrefectClient, automations: Iterable[Saved]) -> None:
    for automation in automations:
        try:
            client.delete_automation(automation.id)
        except PrefectHTTPStatusError as error:
            if error.response.status_code != httpx.codes.NOT_FOUND:
                raise  # otherwise somebody else has deleted it by now


def _shape(automation: AutomationCore) -> dict[str, Any]:
    """What of an automation is ours, comparable: ids, and whether somebody switched it off by hand, are not."""
    shape = automation.model_dump(mode="json", include={"name", "description", "trigger", "actions"})
    return cast(dict[str, Any], _ordered(shape))


def _ordered(value: Any) -> Any:
    """Without ids of triggers and with lists, which were sets of names, in order."""
    if isinstance(value, dict):
        return {key: _ordered(part) for key, part in value.items() if key != "id"}
    return sorted((_ordered(part) for part in value), key=str) if isinstance(value, list) else value
