"""What people, schedules and accidents do to one project between two nights, in any order; and what holds after each.

Beside the rows of `histories`: nights of changing transports, identities and settings, runs that are held, killed,
stopped or broken off, restores, retention, backfills, files lost from the bucket or the disk, older dumps, rights.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from flows.compare import compare_runs
from flows.engine.run import Run
from flows.export import make_file, upload
from flows.forms import CompareForm, ExportForm, RetentionForm
from flows.retention import clean_up
from tasks.errors import LeaseHeld, PipelineError, RunHeld
from tasks.incremental.base import base_run
from tasks.ledger.ledger import Ledger
from tasks.platform.functions import open_database
from tasks.publish.export import export_folder
from tasks.publish.restore import restore
from tasks.read import list_runs
from tasks.settings import load_settings
from tests.incremental import histories
from tests.incremental.accidents import (
    disk_lost,
    dump_restored,
    dumped,
    file_lost,
    hand_changed,
    right_revoked,
    seed_changed,
    trigger_lost,
)
from tests.incremental.kit import full_disk, stored
from tests.incremental.operator import LEASE_ENDS, Operations
from tests.pipeline.killed import run_in_child
from tests.pipeline.test_backfill import backfill

STAGES = (
    "Check sources", "Find changes", "Clean users", "Clean posts", "Build reports", "Compare with Postgres",
    "Verify stored rows", "Write files", "Publish", "Load and commit", "Move pointer",
)  # fmt: skip
_STRICT = {
    "ETL_DRIFT_FLOOR_ROWS": "0", "ETL_MAX_DELETE_SHARE": "0", "ETL_MAX_DROP_SHARE": "0", "ETL_MAX_RULE_POINTS": "0.5",
}  # fmt: skip


def night(o: Operations) -> None:
    o.accepted()


def full_night(o: Operations) -> None:
    o.accepted(full_refresh=True)


def quiet_night(o: Operations) -> None:
    """A second night right after one, as of the same instant, whatever its transport: it writes no row."""
    first = o.accepted()
    if first.historical or any(of["rule"] == "created_in_future" and of["rows_affected"] for of in first.quality):
        return
    before = o.project.writes()
    again = o.run(as_of=first.as_of.isoformat())
    assert o.project.writes() == before, "\n".join(o.log)
    assert again.drifted in (None, 0), "\n".join(o.log)


def held_night(o: Operations) -> None:
    """Strict bounds; what is held is accepted by name, or not."""
    before, files, env = stored(o.project), o.unharmed.listing(), o.env(**_STRICT)
    try:
        o.run(env=env)
    except RunHeld as held:
        assert (stored(o.project), o.unharmed.listing()) == (before, files), "\n".join(o.log)
        o.unharmed.check(o.log)
        if o.rng.random() < 0.7:
            accept = frozenset(held.values)
            o.refused(lambda: o.run(env=env, accept=accept), RunHeld)


def dry_night(o: Operations) -> None:
    before = stored(o.project)
    o.refused(lambda: o.run(env=o.env(**o.rng.choice(({}, _STRICT))), dry_run=True))
    assert stored(o.project) == before, "\n".join(o.log)


def killed_night(o: Operations) -> None:
    stage, later = o.rng.choice(STAGES), o.rng.choice((0.0, o.rng.uniform(0, 0.15)))
    # Short: a heartbeat that the process had sent may arrive after its death, and the lease's end.
    env = o.env(TEST_WITHOUT_CHARTS="1", ETL_LEASE_SECONDS="2")
    code = run_in_child(env, o.as_of(), kill_after=stage, later=later)
    o.world.sql(LEASE_ENDS)
    o.log[-1] += f" {later:.3f} s after {stage}: {code}"
    o.unharmed.ended_somehow(killed=True)


def stopped_night(o: Operations) -> None:
    """As by Ctrl-C when a stage begins."""
    title, enter = o.rng.choice(STAGES), Run.enter

    def stop(run: Run, name: str) -> None:
        enter(run, name)
        if name == title:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "enter", stop)
        o.refused(lambda: o.run(oracle=False), KeyboardInterrupt, RunHeld)
    o.log[-1] += f" before {title}"
    o.unharmed.ended_somehow()


def broken_off_night(o: Operations) -> None:
    with full_disk(o.project):
        o.refused(lambda: o.run(oracle=False, env=o.env(ETL_RETRIES="0")))
    o.unharmed.ended_somehow()


def declined_night(o: Operations) -> None:
    """One that meets another one, in which anything else is tried, too."""
    title, enter, inner = o.rng.choice(STAGES), Run.enter, o.rng.choice(INSIDE)
    tried: list[str] = []

    def meet(run: Run, name: str) -> None:
        enter(run, name)
        if name == title and not tried:
            tried.append(inner.__name__)
            inner(o)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "enter", meet)
        outer = o.env()
        o.refused(lambda: o.run(env=outer, oracle=inner is not changes), PipelineError)
    o.log[-1] += f" with {tried} before {title}"
    o.unharmed.ended_somehow()


def past_days(o: Operations) -> None:
    """A backfill: published beside the current run."""
    first = datetime(2025, o.rng.randrange(10, 13), o.rng.randrange(1, 28), tzinfo=UTC)
    before = stored(o.project)
    with o.acting(o.env()):
        outcomes = backfill([first + timedelta(days=n) for n in range(o.rng.randrange(1, 4))])
    assert all(outcome.historical and not outcome.current for outcome in outcomes), "\n".join(o.log)
    assert stored(o.project) == before, "\n".join(o.log)


# Readers and what is published


def restored(o: Operations) -> None:
    """To a run that was current once; where its files are gone, nothing changes."""
    if not o.runs:
        return
    target, dry = o.rng.choice(o.runs[-6:]), o.rng.random() < 0.2
    before = stored(o.project)
    with o.acting(o.env()):
        done = o.refused(lambda: restore(load_settings(), target.run_id, dry_run=dry))
    if done and not dry:
        o.unharmed.restored(target)
    else:
        assert stored(o.project) == before, "\n".join(o.log)


def retained(o: Operations) -> None:
    """By a clock that is far ahead, or by today's."""
    ahead, dry = timedelta(days=o.rng.choice((0, 2, 20, 400))), o.rng.random() < 0.2
    clock = Ledger.clock
    files = o.unharmed.listing()
    with o.acting(o.env()), pytest.MonkeyPatch.context() as patch:
        patch.setattr(Ledger, "clock", lambda ledger: clock(ledger) + ahead)
        form = RetentionForm(dry_run=dry, keep_days=o.rng.choice((None, 1)))
        actions = o.refused(lambda: clean_up.fn(load_settings(), form))
        with open_database(load_settings()) as database:
            base = base_run(database)
    o.log[-1] += f" {ahead.days} days ahead{' dry' * dry}: {[a.verb for a in actions or ()]}"
    o.unharmed.retained(files, base, dry=dry)


def exported(o: Operations) -> None:
    """Reading, comparing, exporting: an error of ours, or the rows."""
    with o.acting(o.env(ETL_CACHE_DIR=str(o.project.folder / "cache"))):
        settings = load_settings()
        report = o.rng.choice(("user_statistics", "daily_activity", "author_activity", "data_quality"))
        o.refused(lambda: list_runs(settings=settings))
        o.refused(lambda: compare_runs.fn(settings, CompareForm(report=report)))
        if len(o.runs) > 1:
            one, other = (run.run_id for run in o.rng.sample(o.runs, 2))
            o.refused(lambda: compare_runs.fn(settings, CompareForm(report=report, base=one, run=other)))
        form = ExportForm(report=report, format=o.rng.choice(("csv", "parquet")))
        with export_folder(settings) as folder:
            if made := o.refused(lambda: make_file.fn(settings, form, folder)):
                upload.fn(settings, made.path, form)


def changes(o: Operations) -> None:
    o.log[-1] += f" [{', '.join(histories.happen(o.world))}]"


def _another_night(o: Operations) -> None:
    o.refused(lambda: o.run(oracle=False), LeaseHeld)


INSIDE: tuple[Callable[[Operations], None], ...] = (
    _another_night, retained, restored, exported, dry_night, dumped, changes,
)  # fmt: skip
OPERATIONS: tuple[Callable[[Operations], None], ...] = (
    *(night,) * 9, *(changes,) * 7, full_night, quiet_night, quiet_night, held_night, held_night, dry_night,
    killed_night, killed_night, stopped_night, stopped_night, broken_off_night, declined_night, declined_night,
    declined_night, past_days, restored, restored, retained, retained, exported, file_lost, file_lost, disk_lost,
    dumped, dump_restored, seed_changed, trigger_lost, right_revoked, right_revoked, hand_changed,
)  # fmt: skip
