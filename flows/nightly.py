"""The scheduled flow: the whole pipeline, once."""

from __future__ import annotations

from prefect import flow
from prefect.runtime import flow_run

from flows.engine.outcome import RunOutcome, RunRequest
from flows.engine.pipeline import run_pipeline
from flows.engine.report import show_failure, show_outcome
from flows.engine.schedule import due_instant
from flows.forms import NightlyForm
from tasks.errors import PipelineError


def _run_name() -> str:
    options = NightlyForm.model_validate(flow_run.parameters["options"])
    dry = " (dry run)" if options.dry_run else ""
    return f"{flow_run.scheduled_start_time:%Y-%m-%d} nightly, as of {options.label}{dry}"


@flow(name="nightly", flow_run_name=_run_name, persist_result=False)
def nightly(options: NightlyForm = NightlyForm()) -> RunOutcome:  # noqa: B008 - the form is frozen
    """Read `users` and `posts`, clean them, publish reports, write back what changed, commit.

    Args:
        options: What to speak of, and how to get there.
    """
    request = RunRequest(
        as_of=options.instant.isoformat() if options.instant else options.as_of,
        transport=options.transport,
        accept=frozenset(options.accept),
        dry_run=options.dry_run,
        scheduled=due_instant() or flow_run.scheduled_start_time,
    )
    try:
        outcome = run_pipeline(request)
    except PipelineError as error:
        show_failure(error)
        raise
    show_outcome(outcome)
    return outcome
