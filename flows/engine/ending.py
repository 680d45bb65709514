"""How the flow of a run ends: what its page shows, the event of a commit, and the state of a held run."""

from __future__ import annotations

import logging
from typing import Any

from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas.objects import State
from prefect.events import emit_event
from prefect.states import Cancelled

from flows.engine import run_page
from flows.engine.declare import HELD, KEY
from flows.engine.outcome import COMMITTED_EVENT, DRIFTED_EVENT, RunOutcome
from flows.engine.prefect_api import this_flow_run
from flows.engine.report import show_outcome
from tasks.errors import RunHeld

logger = logging.getLogger(__name__)


def outcome_shown(outcome: RunOutcome) -> None:
    """The artifacts of a run that ended well. The run is committed: what goes wrong here is logged, and no failure."""
    _quietly(show_outcome, outcome)
    if outcome.current:
        _quietly(_emit_commit, outcome)
    if outcome.drifted and outcome.status == "committed":
        _quietly(_emit_drift, outcome)


def _emit_commit(outcome: RunOutcome) -> None:
    """Readers see a new run: an alert waits for this, which dry and historical runs do not emit."""
    payload = {"as_of": outcome.as_of.isoformat(), "transport": outcome.transport, "mode": outcome.mode}
    _emit(COMMITTED_EVENT, outcome, payload)


def _emit_drift(outcome: RunOutcome) -> None:
    """A full night found what incremental ones had missed: an alert is sent, as that is never expected."""
    _emit(DRIFTED_EVENT, outcome, {"drifted": outcome.drifted})


def _emit(event: str, outcome: RunOutcome, payload: dict[str, Any]) -> None:
    """An event of the run, with the flow run and the deployment that it is of; none outside of a flow."""
    run = this_flow_run()
    if run is None:
        return
    related = [{"prefect.resource.id": f"prefect.flow-run.{run.id}", "prefect.resource.role": "flow-run"}]
    if run.deployment_id:
        deployment = f"prefect.deployment.{run.deployment_id}"
        related.append({"prefect.resource.id": deployment, "prefect.resource.role": "deployment"})
    resource = {"prefect.resource.id": f"supabase-nightly.run.{outcome.run_id}", "prefect.resource.name": "run"}
    emit_event(event=event, resource=resource, related=related, payload=payload)


def held(error: RunHeld) -> State[Any]:
    """The state of a flow whose run waits for a person: it did not fail, and nobody starts it again by itself.

    Whoever calls the flow gets the error, as for a failure. Prefect runs no hook for a state of this type, so the
    artifact `failure` is made here.
    """
    _quietly(_explain, error)
    return Cancelled(name=HELD, message=error.message, data=error)


def _explain(error: RunHeld) -> None:
    page = run_page.failure_page(error, stage=error.stage, written=error.written, run_id=error.run_id)
    create_markdown_artifact(page, key=KEY, description="What was out of bounds, and what to do next.")


def _quietly(show: Any, what: Any) -> None:
    try:
        show(what)
    except Exception as error:  # noqa: BLE001 - whatever Prefect's or Storage's trouble is, the run has ended already
        logger.warning("The run's page is not complete: %s.", getattr(error, "message", type(error).__name__))
