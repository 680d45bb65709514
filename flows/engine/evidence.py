"""The traceback of a defect, kept after the run's own folder is gone: where it happened, without any value.

Texts of errors quote rows, so only the types of the errors and the lines of code stay.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from pathlib import Path

from tasks.platform.whole_file import whole_file

KEPT = 20


def keep_traceback(error: BaseException, data_dir: Path, name: str) -> Path:
    """Write `errors/<name>.txt` under data_dir, readable by its owner only; the newest 20 files stay. Returns it."""
    folder = data_dir / "errors"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = folder / f"{name}.txt"
    with whole_file(path, private=True) as part:
        part.write_text("\n".join(masked(error)))
    for old in sorted(folder.glob("*.txt"), key=lambda found: found.stat().st_mtime)[:-KEPT]:
        old.unlink(missing_ok=True)
    return path


def masked(error: BaseException) -> Iterator[str]:
    """The traceback of an error and of its causes, oldest first: files, lines and types, and not one message."""
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is not None:
        yield from masked(cause)
        yield "which led to\n"
    yield "".join(traceback.format_tb(error.__traceback__)).rstrip()
    code = getattr(error, "sqlstate", None) or getattr(error, "code", None)
    suffix = f" ({code})" if isinstance(code, str) and len(code) <= 12 else ""
    yield f"{type(error).__module__}.{type(error).__name__}{suffix}: its text is left out, it may hold data of a row\n"
