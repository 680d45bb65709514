"""Demo data, and what the pipeline documents about its files."""

import tasks.platform.early  # noqa: F401 - before anything that takes its time
