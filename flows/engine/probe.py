"""`python -m flows.watch --health` for probes, which ask every minute and wait for seconds: it imports little."""

from __future__ import annotations

import argparse
import sys

from tasks.errors import SettingsError
from tasks.live.health import verdict
from tasks.settings.load import any_settings, require_known_names


def parser() -> argparse.ArgumentParser:
    """The arguments of a watch."""
    added = argparse.ArgumentParser(prog="python -m flows.watch", description="Start a run when something changed.")
    added.add_argument("--health", action="store_true", help="say how the watch of ETL_DATA_DIR is, and exit")
    added.add_argument("--serve", action="store_true", help="serve the flow `watch` to Prefect from this process")
    return added


def main() -> int:
    """0 when the watch of this folder is well, 1 when it is not, 2 for settings that cannot be used."""
    try:
        return health()
    except SettingsError as error:
        from flows.terminal.display import show_error  # not above, as it imports rich

        show_error(error.message, error.remedy)
        return 2


def health() -> int:
    """Print how the watch is. 0 when it is well, 1 when it is not. SettingsError as from `load_settings`.

    No project need be set: `make watch` works on the local stack without.
    """
    require_known_names()
    well, sentence = verdict(any_settings())
    sys.stdout.write(f"{sentence}\n")
    return 0 if well else 1
