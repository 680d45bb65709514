"""The flows that Prefect runs, each with its form in `flows.forms`; what they share is in `flows.engine`."""

import gc
import sys

import tasks  # noqa: F401 - first: it hears Ctrl-C, and says how Arrow takes memory
from tasks.errors import SettingsError
from tasks.settings.environment import set_up_commands

# Little of what an import makes is garbage, and looking for it took a fifth of the import's time. A run goes back to
# the usual numbers: see `flows.engine.pipeline`.
USUAL = gc.get_threshold()
gc.set_threshold(50_000, 20, 20)

# Prefect reads the environment and `.env` when it is imported. Where it was before us, the process is one of its own.
if "prefect" not in sys.modules:
    try:
        set_up_commands()
    except SettingsError as error:
        from flows.terminal.display import show_error  # it imports no Prefect either

        show_error(error.message, error.remedy)
        if "--json" in sys.argv[1:]:
            from flows.engine.command import print_json_of_error

            print_json_of_error(error)
        raise SystemExit(2) from None
