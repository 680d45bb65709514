"""Side-by-side measurements."""

import tasks  # noqa: F401 - before Arrow: it says how Arrow takes memory
