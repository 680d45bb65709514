"""`make watch`: changes start a run, on the project that is set or else on the local stack."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from deploy import project
from flows.engine.probe import main as probe
from flows.engine.probe import parser
from scripts.ui import use_running
from tasks.errors import PipelineError
from tasks.settings.environment import prefect_api_url


def main(arguments: Sequence[str] | None = None) -> int:
    """Watch until Ctrl-C; 0 ended cleanly, 1 failed. Runs get a page where `make ui` or PREFECT_API_URL is there."""
    watches = not parser().parse_args(arguments).health
    project.set_up_prefect()
    if not prefect_api_url():
        use_running(Path(os.environ["PREFECT_HOME"]))
    try:
        name = project.use(start=watches)
    except PipelineError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if not watches:
        return probe()
    project.log_step(f"Watching {name}; Ctrl-C ends it")
    from flows.watch import main as watch

    return watch(arguments)


if __name__ == "__main__":
    sys.exit(main())
