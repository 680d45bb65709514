"""The database's shape: numbered SQL files that are applied in order, once, and a way back.

`make migration` writes what the contracts ask for beyond the last file as a new one, `make migrate` applies files.
"""

from __future__ import annotations

from deploy.migrations.apply import migrate, rollback
from deploy.migrations.files import MIGRATIONS, Migration, migrations, write_migration
from deploy.migrations.guest import copy_into
from deploy.migrations.sources import create_source_tables

__all__ = [
    "MIGRATIONS",
    "Migration",
    "copy_into",
    "create_source_tables",
    "migrate",
    "migrations",
    "rollback",
    "write_migration",
]
