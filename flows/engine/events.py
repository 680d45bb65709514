"""The event that a current run was committed: what the alert of a missing night waits for."""

from __future__ import annotations

import logging

from prefect.events import emit_event

logger = logging.getLogger(__name__)
COMMITTED = "supabase-nightly.committed"
RESOURCE = "supabase-nightly.project"


def announce_commit(project: str, *, run_id: str, as_of: str) -> None:
    """Tell Prefect's server that readers now see a new run. Dry and historical runs must not: nothing changed there."""
    try:
        emit_event(
            event=COMMITTED,
            resource={"prefect.resource.id": f"{RESOURCE}.{project}", "prefect.resource.name": project},
            payload={"run_id": run_id, "as_of": as_of},
        )
    except Exception as error:  # noqa: BLE001 - a committed run does not fail for its event
        logger.warning("The event %s could not be sent: %s.", COMMITTED, type(error).__name__)
