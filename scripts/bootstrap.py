"""Sets up a Prefect server for this project: work pool, deployments, notification blocks, automations, variable.

    PREFECT_API_URL=http://127.0.0.1:4200/api python -m scripts.bootstrap [--test-alerts] [--remove-alerts] [--replace]

What is there is brought up to date and nothing is made twice. What the settings do not name stays as the server has it:
the schedule without ETL_CRON and ETL_TIMEZONE, alerts without ETL_ALERT_*. It needs no key of the Supabase project.
Exit codes: 0 done, 1 the server refused or a test message was not taken, 2 settings that cannot be.
"""

from __future__ import annotations

import argparse
import gc
import sys
from collections.abc import Sequence

from pydantic import ValidationError

from tasks.errors import ConfigurationError, said_of
from tasks.settings import Settings, require_known_names
from tasks.settings.environment import prefect_api_url
from tasks.settings.load import variable


def main(arguments: Sequence[str] | None = None) -> int:
    """Set up the server of PREFECT_API_URL; returns the exit code."""
    options = _parser().parse_args(arguments)
    if not prefect_api_url():
        print("PREFECT_API_URL is not set: name the server, like http://127.0.0.1:4200/api.", file=sys.stderr)
        return 2
    gc.disable()  # it ends soon: to look for garbage while Prefect loads would take a fifth of its time
    from deploy.server_setup import SetupError, check, set_up, test_alerts  # reads Prefect's settings

    try:
        require_known_names()
        settings = Settings()
        if wrong := check(settings):
            print(*(f"error: {sentence}" for sentence in wrong), sep="\n", file=sys.stderr)
            print("Nothing was changed.", file=sys.stderr)
            return 2
        set_up(settings, replace=options.replace, remove_alerts=options.remove_alerts, say=print)
        return 0 if not options.test_alerts or test_alerts(print) else 1
    except ValidationError as error:
        for wrong_one in error.errors():
            print(f"error: {variable(wrong_one['loc'])} {said_of(wrong_one)}.", file=sys.stderr)
        print("Nothing was changed.", file=sys.stderr)
        return 2
    except ConfigurationError as error:
        print(f"error: {error} Nothing was changed.", file=sys.stderr)
        return 2
    except SetupError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m scripts.bootstrap", description="Set up a Prefect server.")
    parser.add_argument("--test-alerts", action="store_true", help="send a test message through every alert channel")
    parser.add_argument("--remove-alerts", action="store_true", help="remove the alert channels of the server first")
    parser.add_argument("--replace", action="store_true", help="move a server that is set up for another project here")
    return parser


if __name__ == "__main__":
    sys.exit(main())
