"""The flows that Prefect runs, each with its form in `flows.forms`; what they share is in `flows.engine`."""

import gc

import tasks  # noqa: F401 - before Arrow: it says how Arrow takes memory

# Little of what an import makes is garbage, and looking for it took a fifth of the import's time. A run goes back to
# the usual numbers: see `flows.engine.garbage`.
USUAL = gc.get_threshold()
gc.set_threshold(50_000, 20, 20)
