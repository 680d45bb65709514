"""The embedded stack: a PostgreSQL and Supabase's REST, Auth and Storage, whose whole state is in one folder.

from local_stack import up, down
stack = up(Path("data/local/stack"))
down(stack.home)
"""

import tasks.platform.early  # noqa: F401 - before anything that takes its time
from local_stack.errors import StackError
from local_stack.stack import Stack, Status, down, find, rekey, reset, status, up, uses

__all__ = ["Stack", "StackError", "Status", "down", "find", "rekey", "reset", "status", "up", "uses"]
