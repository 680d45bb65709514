"""When the newest nightly committed of those that readers were shown."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from pathlib import Path

from tasks.platform.whole_file import whole_file


class LastCommit:
    """Nobody but a reader may ask the ledger, so what one was shown is kept: in a file that the site's processes share
    and that outlives them; where that cannot be written, for this process."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._shown: datetime | None = None

    @property
    def at(self) -> datetime | None:
        """None where no reader was shown one yet."""
        return max((at for at in (self._shown, self._kept()) if at), default=None)

    def note(self, at: datetime) -> None:
        """A reader is shown a nightly that committed then; an older one changes nothing."""
        if (known := self.at) and at <= known:
            return
        self._shown = at
        with suppress(OSError), whole_file(self._path, private=True) as part:
            part.write_text(at.isoformat())

    def _kept(self) -> datetime | None:
        try:
            return datetime.fromisoformat(self._path.read_text())
        except (OSError, ValueError):
            return None
