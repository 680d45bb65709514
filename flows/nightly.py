"""The scheduled flow: the whole pipeline, once."""

from __future__ import annotations

from typing import cast

from prefect.runtime import flow_run
from prefect.states import Failed

from flows.engine.declare import etl_flow
from flows.engine.outcome import RunOutcome, RunRequest
from flows.engine.pipeline import run_pipeline
from flows.engine.report import show_outcome
from flows.engine.schedule import due_instant, plain
from flows.forms import NightlyForm
from tasks.errors import RunHeld


def _run_name() -> str:
    options = NightlyForm.model_validate(flow_run.parameters["options"])
    dry = " (dry run)" if options.dry_run else ""
    return f"{flow_run.scheduled_start_time:%Y-%m-%d} nightly, as of {options.label}{dry}"


@etl_flow(name="nightly", run_name=_run_name)
def nightly(options: NightlyForm = NightlyForm()) -> RunOutcome:  # noqa: B008 - the form is frozen
    """Read `users` and `posts`, clean them, publish reports, write back what changed, commit.

    Args:
        options: What the run is as of, and how to get there.
    """
    request = RunRequest(
        as_of=options.instant.isoformat() if options.instant else options.as_of,
        transport=options.transport,
        accept=frozenset(options.accept),
        dry_run=options.dry_run,
        scheduled=due_instant() or plain(flow_run.scheduled_start_time),
        full_refresh=options.full_refresh,
    )
    try:
        outcome = run_pipeline(request)
    except RunHeld as error:  # a state of its own name, which automations and people can tell from a failure
        return cast(RunOutcome, Failed(name="Held", message=error.message, data=error))
    show_outcome(outcome)
    return outcome
