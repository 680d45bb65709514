"""Which project the commands work on: the one that is set, or else the local stack, started if need be."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.platform.whole_file import whole_file
from tasks.settings import LOCAL_PROJECT
from tasks.settings.environment import OF_COMMANDS, file_values, said_in, value_of

if TYPE_CHECKING:
    from local_stack import Stack

LOCAL_HOME = Path("data/local/stack")
PREFECT = {
    "PREFECT_HOME": str(Path("data/local/prefect").resolve()),
    **OF_COMMANDS,
}


def is_set() -> bool:
    """Whether the environment or .env names a project."""
    return bool(_url())


def _url() -> str:
    """The project's address; empty for none. The environment wins, also with an empty value."""
    given = said_in(os.environ, "SUPABASE_URL")
    return given if given is not None else said_in(file_values(), "SUPABASE_URL") or ""


def set_up_prefect() -> None:
    """Point Prefect at its own folder here, unless the environment says where."""
    for name, value in PREFECT.items():
        # An empty folder would be the one that a command starts in, and one named ~ lie there.
        os.environ[name] = os.path.expanduser(value_of(name) or value)


def use(*, start: bool = True, keep: bool = True) -> str:
    """Point this process at the project, and Prefect at its own folder here. Returns what the project is called.

    Without a project the local stack is used: found, and started when `start`, to go on afterwards when `keep`. Raises
    StackError when that fails.
    """
    set_up_prefect()
    if url := _url():
        return url
    from local_stack import find, up  # a worker's image has none

    stack = up(LOCAL_HOME, keep=keep, say=log_step) if start else find(LOCAL_HOME)
    if stack is not None:
        os.environ.update(stack.env())
        _leave_for_readers(stack)
    return "the local stack"


def _leave_for_readers(stack: Stack) -> None:
    """Address and keys for `tasks.read` in another process, as the printed two lines use it; the owner's only."""
    text = "".join(f"{name}={value}\n" for name, value in stack.env().items() if name != "SUPABASE_DB_URL")
    with whole_file(LOCAL_PROJECT, private=True) as part:
        part.write_text(text)


def log_step(text: str) -> None:
    """One line of progress, on stderr."""
    print(f"· {text}", file=sys.stderr, flush=True)
