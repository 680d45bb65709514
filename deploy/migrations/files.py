"""The files under `supabase/migrations`: plain SQL, `<version>_<name>.sql`, applied in order of their versions.

An applied file never changes. What the contracts ask for beyond the last one goes into a new file.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from deploy.migrations.difference import statements
from deploy.migrations.shape import Shape, record, recorded, wanted_shape
from tasks.errors import ConfigurationError

ROOT = Path(__file__).parents[2] / "supabase"
MIGRATIONS = ROOT / "migrations"

_HEADER = """\
-- Written by `make migration` from the difference between tasks/contracts/ and the migration before it. It never
-- changes again: the next change of the contracts gets a file of its own.
set lock_timeout = '5s';
"""


@dataclass(frozen=True, slots=True)
class Migration:
    """One file."""

    path: Path

    @property
    def version(self) -> str:
        """Fourteen digits; the order of the files."""
        return self.path.name.partition("_")[0]

    @property
    def name(self) -> str:
        """What follows the version."""
        return self.path.stem.partition("_")[2]

    @property
    def sql(self) -> str:
        """The whole file."""
        return self.path.read_text(encoding="utf-8")


def migrations(folder: Path | None = None) -> list[Migration]:
    """All of them, in order."""
    return [Migration(path) for path in sorted((folder or MIGRATIONS).glob("*.sql"))]


def last_shape() -> Shape:
    """The shape that the last migration with a record of it leads to; empty before the first."""
    shapes = (recorded(migration.sql) for migration in reversed(migrations()))
    return next((shape for shape in shapes if shape), {})


def write_migration(*, name: str = "contracts", version: str = "") -> Path | None:
    """Write what the contracts ask for beyond the last migration as a new file; None when they ask for nothing.

    version: fourteen digits instead of the time of now. Raises ConfigurationError where it does not follow the last.
    """
    before, after = last_shape(), wanted_shape()
    changes = statements(before, after)
    if not changes:
        return None
    last = max((migration.version for migration in migrations()), default="")
    if version and version <= last:  # it would be applied before what it changes, or be written over that
        raise ConfigurationError(
            f"The version {version} does not follow that of the last migration, {last}. Nothing was written.",
            remedy="Leave --version out, and it is the time of now.",
        )
    path = MIGRATIONS / f"{version or next_versions(MIGRATIONS)[0]}_{name}.sql"
    path.write_text("\n".join([_HEADER, *changes, record(after), ""]), encoding="utf-8")
    return path


def next_versions(folder: Path, count: int = 1) -> list[str]:
    """Versions that follow every file of a folder: times up to now, or numbers after the last if that is later."""
    now = datetime.now(UTC)
    times = [(now - timedelta(seconds=back)).strftime("%Y%m%d%H%M%S") for back in reversed(range(count))]
    last = max((m.version for m in migrations(folder) if m.version.isdigit()), default="0")
    return times if not times or last < times[0] else [str(int(last) + n) for n in range(1, count + 1)]
