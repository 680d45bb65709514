"""Logging of a flow's process: set up when a run starts, never at import."""

from __future__ import annotations

import logging

from tasks.errors import PipelineError
from tasks.settings.environment import value_of


class _NoTraceback(logging.Filter):
    """Prefect logs every failure with its traceback; an error of ours says all of it in a sentence."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.exc_info and isinstance(record.exc_info[1], PipelineError):
            record.exc_info = None
            record.exc_text = None
        return True


_FILTER = _NoTraceback()


def configure_logging() -> None:
    """INFO of `flows` and `tasks` reaches the run's page, unless a level is set; our errors bring no traceback.

    Safe to call more than once.
    """
    level = value_of("PREFECT_LOGGING_LEVEL").upper() or "INFO"
    for name in ("flows", "tasks"):
        logging.getLogger(name).setLevel(level)
    for name in ("prefect.task_runs", "prefect.flow_runs", "prefect.engine"):
        logging.getLogger(name).addFilter(_FILTER)  # a second time changes nothing
