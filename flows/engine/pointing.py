"""The last stage of a run: its pointer, for which an outage is waited out as it is before the commit."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from flows.engine.progress import Meter
from flows.engine.run import Run
from flows.engine.stage import stage
from flows.engine.stages import Published
from flows.terminal.display import IN_SUMMARY
from tasks.errors import PipelineError, TransientError
from tasks.publish.pointer import point_to_current
from tasks.sink import LoadCounts

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Pointer:
    """Whether readers see the run now, and if it is committed but they do not, which other one they see, and why.

    may_pass: what kept it back may be over in a minute.
    """

    current: bool
    notes: tuple[str, ...] = ()
    run_id: str = ""
    may_pass: bool = False


def move_pointer(run: Run, published: Published, loaded: Mapping[str, LoadCounts]) -> Pointer:
    """Point to the run; while an outage keeps that back, as often and as far apart as a run is started again."""
    for _ in range(run.settings.run_retries):
        pointer = point_to_it(run, published, loaded)
        if not pointer.may_pass:
            return pointer
        logger.warning("Moving latest.json is tried again in %g s.", run.settings.run_retry_seconds)
        time.sleep(run.settings.run_retry_seconds)
    return point_to_it(run, published, loaded)


@stage("Move pointer")
def point_to_it(run: Run, progress: Meter, published: Published, loaded: Mapping[str, LoadCounts]) -> Pointer:
    """`latest.json` names the run. The run is committed: a failure here is noted, and the next start does it."""
    if run.lease.historical:
        return Pointer(current=False, run_id=_seen_instead(run))
    try:
        named = point_to_current(run.settings, run.ledger)
    except PipelineError as error:
        note = f"latest.json did not move: {error.message} The run is committed; the next start moves it."
        logger.warning(note, extra=IN_SUMMARY)
        return Pointer(current=False, notes=(note,), may_pass=isinstance(error, TransientError))
    run.record(path=named)
    return Pointer(current=named == published.manifest.path, run_id=PurePosixPath(named or "").parent.name)


def _seen_instead(run: Run) -> str:
    """The run that readers go on seeing; empty where the ledger does not say."""
    try:
        seen = run.ledger.current()
    except PipelineError as error:
        logger.warning("Which run readers see is not known: %s", error.message)
        return ""
    return seen.run_id if seen else ""
