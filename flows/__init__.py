"""The flows that Prefect runs, each with its form in `flows.forms`; what they share is in `flows.engine`."""

import gc

import tasks  # noqa: F401 - before Arrow: it says how Arrow takes memory

# A start imports some hundred thousand objects that stay. To search them for garbage after each 700 new ones, as is the
# default, was a tenth of its processor time.
gc.set_threshold(50_000)
