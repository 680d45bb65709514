"""The flows that Prefect runs. What they and `tasks` log at INFO reaches the run's page, unless a level is set."""

import logging
import os

for _name in ("flows", "tasks"):
    logging.getLogger(_name).setLevel(os.environ.get("PREFECT_LOGGING_LEVEL", "INFO").upper())
