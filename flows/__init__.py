"""The flows that Prefect runs, each with its form in `flows.forms`; what they share is in `flows.engine`."""

import tasks  # noqa: F401 - before Arrow: it says how Arrow takes memory
