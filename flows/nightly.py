"""The scheduled flow: the whole pipeline, once. `python -m flows.nightly` runs it without a server, for cron and CI."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import cast

from prefect.client.schemas.objects import FlowRun
from prefect.runtime import flow_run
from prefect.states import Cancelled

from flows.engine import command
from flows.engine.declare import etl_flow
from flows.engine.ending import held, outcome_shown
from flows.engine.outcome import RunOutcome, RunRequest
from flows.engine.pipeline import run_pipeline
from flows.engine.prefect_api import answer_of, prefect_answering, this_flow_run
from flows.engine.schedule import (
    as_scheduled,
    crashed_run,
    due_instant,
    earlier_restart,
    latest_due,
    once_due,
    plain,
    tried_again,
    tries_before,
)
from flows.forms import NightlyForm
from tasks.errors import RunHeld
from tasks.ledger.as_of import AsOf
from tasks.settings import settings_over
from tasks.settings.environment import prefect_api_url


def _run_name() -> str:
    options = as_scheduled(NightlyForm.model_validate(flow_run.parameters["options"]))
    due = latest_due() or flow_run.scheduled_start_time
    return f"{due:%Y-%m-%d} nightly, as of {options.label}{options.if_dry}"


@etl_flow(name="nightly", run_name=_run_name)
def nightly(options: NightlyForm = NightlyForm()) -> RunOutcome:  # noqa: B008 - the form is frozen
    """Read `users` and `posts`, clean them, publish reports, write back what changed, commit.

    Args:
        options: What the run is as of, and how to get there.
    """
    if twin := earlier_restart(options.restart_of):
        return cast(RunOutcome, Cancelled(message=f"The run {twin} restarts the crashed run already."))
    try:
        outcome = run_pipeline(request_of(as_scheduled(options)))
    except RunHeld as error:
        return cast(RunOutcome, held(error))
    outcome_shown(outcome)
    return replace(outcome, page=flow_run.ui_url or "")


def request_of(options: NightlyForm) -> RunRequest:
    """What a flow run asks for. A restart names the runs that crashed; what starts by itself waits for the lease."""
    run = this_flow_run()
    crashed = (options.restart_of or crashed_run()) if options.restart else ""
    tries = tries_before(crashed)
    return RunRequest(
        as_of=_as_of(options, tries),
        transport=options.transport,
        accept=frozenset(options.accept),
        dry_run=options.dry_run,
        full_refresh=options.full_refresh,
        scheduled=bool(run and run.auto_scheduled) or options.restart > 0,
        resume_runs=tuple(dict.fromkeys(filter(None, (crashed, *(str(one.id) for one in tries))))),
        started_by=str(run.id) if run else "",
    )


def _as_of(options: NightlyForm, tries: Sequence[FlowRun]) -> AsOf:
    """What the form means. A restart has that of the first try, for where that died before the ledger knew of it.

    Whoever tries the night of an earlier day again asks for a past instant: readers must not go back to it.
    """
    first = tries[-1] if tries else None
    asked = NightlyForm.model_validate(first.parameters.get("options") or {}) if first else options
    if asked.instant:
        return AsOf.instant(asked.instant)
    word = AsOf.parse(asked.as_of).mode
    due = once_due((latest_due(first) if first else due_instant()) or plain(flow_run.scheduled_start_time))
    as_of = AsOf.day(word, due)
    is_past = word == "midnight" and due.date() < datetime.now(UTC).date() and tried_again(first)
    return AsOf.instant(as_of.at) if is_past and as_of.at else as_of


def main(arguments: Sequence[str] | None = None) -> int:
    """Run once, on the project that is set; nothing is started for it, and no server is needed."""
    return command.main(arguments, prog="python -m flows.nightly", run=_run)


def _run(options: command.Options) -> RunOutcome:
    settings_over(options.form.transport)  # SettingsError where they cannot be used
    if not prefect_api_url():
        return run_pipeline(options.request)
    with prefect_answering():
        return answer_of(nightly, options.form)  # the run gets its page there; a held one raises


if __name__ == "__main__":
    sys.exit(main())
