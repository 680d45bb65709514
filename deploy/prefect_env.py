"""Settings of Prefect that hold everywhere."""

from __future__ import annotations

# For every process of Prefect's: no telemetry, no promotion, and our lines of log on the run's page.
EVERYWHERE = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "PREFECT_LOGGING_EXTRA_LOGGERS": "flows,tasks",
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",  # threads of ours log too
    "DO_NOT_TRACK": "1",
}
