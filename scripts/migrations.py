"""The database's migrations: `python -m scripts.migrations [up|new|rollback]`.

`up` applies the files of supabase/migrations that are not applied (`make migrate`); `new` writes what the contracts ask
for beyond the last file as a new one (`make migration`); `rollback` takes everything back. `up` and `rollback` use
SUPABASE_DB_URL.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from deploy.migrations import copy_into, migrate, rollback, write_migration
from tasks.errors import PipelineError, SettingsError
from tasks.settings.load import any_settings

_NO_URL = (
    "SUPABASE_DB_URL is not set; nothing was changed. Set it in the environment or in .env, to the address of the "
    "owner of the tables: on Supabase of postgres, in the dashboard under Connect."
)
_SHAPES = {"name": "[a-z0-9_]+", "version": "[0-9]{14}"}  # of a file of migrations; a folder has any but none


def main(arguments: Sequence[str] | None = None) -> int:
    """0 done, 1 failed or not all of it there, 2 no SUPABASE_DB_URL, or a wrong setting or argument."""
    options = _options(arguments)
    try:
        db_url = "" if options.action == "new" else any_settings().supabase_db_url.get_secret_value()
        if options.action != "new" and not db_url:
            print(_NO_URL, file=sys.stderr)
            return 2
        _carry_out(options, db_url)
    except PipelineError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, SettingsError) else 1
    except OSError as error:  # a folder or disk that a file cannot be written to
        print(f"error: {error.filename or 'The file'} cannot be written: {error.strerror}.", file=sys.stderr)
        return 1
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.migrations", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("action", nargs="?", default="up", choices=["up", "new", "rollback"])
    parser.add_argument("--into", metavar="FOLDER", help="new: copy all files into a product's own folder")
    parser.add_argument("--name", default=None, help="new: what follows the version in the file's name")
    parser.add_argument("--version", default=None, help="new: the version, instead of the time of now")
    options = parser.parse_args(arguments)
    given = [name for name in ("into", "name", "version") if getattr(options, name) is not None]
    if given and options.action != "new":
        parser.error(f"--{given[0]} is for `new`, which is `make migration`; nothing was applied")
    for name in given:
        if not re.fullmatch(_SHAPES.get(name, ".+"), getattr(options, name)):
            parser.error(f"--{name} {getattr(options, name)!r} cannot be used; nothing was written")
    return options


def _carry_out(options: argparse.Namespace, db_url: str) -> None:
    if options.action == "up":
        if not migrate(db_url, say=print):
            print("nothing to apply")
    elif options.action == "rollback":
        rollback(db_url, say=print)
        print("taken back")
    else:
        _write(options)


def _write(options: argparse.Namespace) -> None:
    path = write_migration(name=options.name or "contracts", version=options.version or "")
    print(f"written: {path.name}" if path else "nothing to write: the last migration is as the contracts ask")
    if options.into:
        copies = copy_into(Path(options.into))
        print("\n".join(f"written: {copy}" for copy in copies) or f"{options.into} has every file already")


if __name__ == "__main__":
    sys.exit(main())
