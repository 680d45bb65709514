"""What a night is made of, in packages by the way the data takes."""

import os

import tasks.platform.early  # noqa: F401 - before anything that takes its time

# Read when Arrow is loaded. Its own allocator takes memory in pages of 2 MiB, which the system has to clear, and gives
# little back: reading and cleaning took longer with it, and a third more memory.
os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
