"""Files that are there whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import TypeVar

AnyPath = TypeVar("AnyPath", bound=PurePath)


def part_of(target: AnyPath) -> AnyPath:
    """Beside the file, where it is written until it is whole. No other writer has that name.

    Dask starts a task again whose worker it takes for dead, and a worker that is only slow goes on with it: two
    processes write the same file.
    """
    return target.with_name(f"{target.name}.{secrets.token_hex(4)}.part")


@contextmanager
def whole_file(target: Path, *, private: bool = False) -> Iterator[Path]:
    """The path to write to: at the block's end it becomes the file; after an error nothing of it is left.

    private: nobody else may read it, whoever may enter its folder.
    """
    part = part_of(target)
    try:
        if private:
            part.touch(mode=0o600)
        yield part
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)
