"""Applying the files in order of their versions, and taking everything back."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from deploy.migrations.books import (
    COPIED,
    applied,
    copies_in_the_clis_history,
    entry,
    forget_checksums,
    in_the_clis_history,
    open_books,
)
from deploy.migrations.bucket import bucket_is_there, give_back_storage, make_deleted_bucket
from deploy.migrations.database import Run, connected, require_release, say_nothing, with_lock_retries
from deploy.migrations.files import ROOT, Migration, migrations
from deploy.migrations.functions import (
    make_dropped_functions,
    make_dropped_trigger,
    make_dropped_views,
    make_newer_functions,
)
from deploy.migrations.repair import forget_dropped_tables, make_missing_role
from deploy.migrations.rights import give_back_rights, take_back_rights
from deploy.migrations.verify import verify

_REPAIR = "  supabase migration repair --status reverted {}"


def migrate(db_url: str, *, say: Callable[[str], None] = say_nothing) -> list[str]:
    """Apply every file that is not applied, each in one transaction, and verify the result; returns their names.

    Dropped functions, views, the trigger, the bucket and the role are made again, and functions of an earlier release
    are replaced. Rights of the runs and of readers are given back where somebody took them; what somebody opened to
    everybody is closed.

    say: called for each file as soon as it is applied. Raises WriteError with the file's name, the server's message and
    its SQLSTATE when the database refuses one: that file then left nothing behind. Raises ServiceUnavailable when the
    connection breaks, ConfigurationError when something that the files make, or that the contracts ask for, is missing,
    or when the server is too old.
    """
    with connected(db_url, say=say) as run:
        require_release(run)
        files = migrations()
        open_books(run, files)
        forget_dropped_tables(run, say=say)
        known = applied(run)
        if known:
            make_missing_role(run, files, say=say)
        pending = [migration for migration in files if migration.version not in known]
        for migration in pending:
            sql = f"begin;\n{migration.sql}\n{entry(migration)}\ncommit;"
            with_lock_retries(run, sql, migration.path.name, say=say)
            say(f"applied {migration.path.stem}")
        if forget_checksums(run):
            _offer_repair(run, files, say)
        make_dropped_functions(run, files, say=say)
        make_newer_functions(run, files, say=say)
        make_dropped_views(run, files, say=say)
        make_dropped_trigger(run, files, say=say)
        # A file that an earlier release wrote leaves these two out. Where no index is missing, nothing is locked.
        with_lock_retries(run, "select public.etl_make_indexes()", "Making missing indexes", say=say)
        if pending:
            with_lock_retries(run, "select public.etl_open_to_readers()", "Giving readers rights", say=say)
            run("notify pgrst, 'reload schema'")
        take_back_rights(run, files, say=say)
        give_back_rights(run, files, say=say)
        make_deleted_bucket(run, say=say)
        give_back_storage(run, say=say)
        verify(run)
    return [migration.path.stem for migration in pending]


def rollback(db_url: str, *, say: Callable[[str], None] = say_nothing) -> None:
    """Take back everything that `migrate` made, but the bucket and its files.

    The Supabase CLI's history and the product's folder are its own: where they have our files, `say` gets what to do.
    """
    with connected(db_url, say=say) as run:
        forget_dropped_tables(run, say=say)
        sql = f"begin;\n{(ROOT / 'rollback.sql').read_text(encoding='utf-8')}\ncommit;"
        with_lock_retries(run, sql, "rollback.sql", say=say)
        _offer_repair(run, migrations(), say)
        _offer_removal(run, say)
        if bucket_is_there(run):
            say("The bucket reports and its files stay: empty and delete it in the dashboard, under Storage.")


def _offer_repair(run: Run, files: Sequence[Migration], say: Callable[[str], None]) -> None:
    """The command that takes our files out of the Supabase CLI's history, which is not ours to write."""
    if listed := in_the_clis_history(run, files):
        say(f"The Supabase CLI's history lists {len(listed)} files of ours. A product with migrations of its own needs")
        say("them out of it for its `supabase db push`:")
        say(_REPAIR.format(" ".join(listed)))


def _offer_removal(run: Run, say: Callable[[str], None]) -> None:
    """What takes our copies out of the product's folder and history: a push elsewhere would make all of it again."""
    if listed := copies_in_the_clis_history(run):
        say(f"The Supabase CLI's history lists {len(listed)} copies of our files. Remove *_{COPIED}*.sql from the")
        say("product's supabase/migrations; its `supabase db push` then needs them out of the history, too:")
        say(_REPAIR.format(" ".join(listed)))
