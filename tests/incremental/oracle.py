"""What a full night would leave, found without one: everything is read and cleaned again, and nothing is written.

An incremental night leaves its stamps for the next one, so a real full night after each step would hide what the last
one got wrong. This one compares and goes.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Any

from flows.engine import incremental, stages
from flows.engine.outcome import RunOutcome, RunRequest
from flows.engine.pipeline import start_of
from flows.engine.run import Run, open_run
from tasks.contracts import DATA_QUALITY, TABLES
from tasks.files.run_files import write_files
from tasks.ledger.as_of import AsOf
from tasks.reports.build import run_counts
from tasks.reports.figures import RunCounts
from tasks.settings import Transport, settings_over
from tasks.sink.model import REFUSED_RULE, changes, deletes, reject_changes, reject_deletes
from tests.pipeline.kit import Project


@dataclass(frozen=True)
class FullNight:
    """files: sha256 by path. differs: keys of rows that a full night would write, delete or reject otherwise."""

    files: dict[str, str]
    counts: RunCounts
    quality: list[dict[str, Any]]
    differs: dict[str, list[str]]


def full_night(outcome: RunOutcome, transport: Transport) -> FullNight:
    """A full night for the same as_of, on the same source, from the settings of the environment."""
    request = RunRequest(as_of=AsOf.instant(outcome.as_of), dry_run=True, full_refresh=True, transport=transport)
    settings = settings_over(request.transport)
    with open_run(settings, request, start_of(settings, request)) as run:
        sources = stages.check_sources(run)
        run.lease = replace(run.lease, snapshot_at=outcome.snapshot_at)  # a clock that runs on must not matter
        assert not incremental.find_changes(run, sources)
        posts = stages.read_posts(run, sources)
        users = stages.read_users(run, posts)
        stages.read_further(run, users)
        cleaned = stages.clean_the_users(run, stages.recheck_orphans(run, posts, users))
        cleaned_posts = stages.clean_the_posts(run, cleaned)
        stages.clean_the_further(run, cleaned_posts)
        counts = stages.build_the_reports(run, cleaned, cleaned_posts)
        stages.compare(run, counts)
        entries = write_files(run.workspace, as_of=run.as_of, settings=run.settings)
        return FullNight(
            files={entry.path: entry.sha256 for entry in entries},
            counts=run_counts(run.workspace),
            quality=run.workspace.report(DATA_QUALITY).table().to_pylist(),
            differs=_differs(run),
        )


def _differs(run: Run) -> dict[str, list[str]]:
    found = {}
    for table in TABLES:
        rows = changes(run.workspace, table)
        found[f"{table.name} to write"] = [str(k) for b in rows.batches() for k in b[table.key.name].to_pylist()]
        for what, spool in (
            ("to delete", deletes(run.workspace, table)),
            ("rejects to delete", reject_deletes(run.workspace, table)),
        ):
            found[f"{table.name} {what}"] = [str(k) for b in spool.batches() for k in b["id"].to_pylist()]
        rejects = reject_changes(run.workspace, table)
        found[f"{table.name} rejects to write"] = [
            f"{key} {rule}"
            for b in rejects.batches()
            for key, rule in zip(b["key"].to_pylist(), b["rule"].to_pylist(), strict=True)
        ]
    return found


def problems(project: Project, outcome: RunOutcome, transport: Transport) -> list[str]:
    """What the night left otherwise than a full one would have; empty when nothing."""
    full = full_night(outcome, transport)
    ours = {path: sha256 for path, (sha256, _) in _published(project, outcome).items()}
    found = [
        f"file {path}: {ours.get(path)} and {full.files.get(path)}"
        for path in sorted({*ours, *full.files})
        if ours.get(path) != full.files.get(path)
    ]
    for name, of in full.counts.tables.items():
        theirs = of.model_dump()
        mine = {key: outcome.tables[name][key] for key in theirs}
        if mine != theirs:
            found.append(f"{name} counted {mine} and {theirs}")
        written = outcome.tables[name]
        if written["kept"] != sum(written[k] for k in ("inserted", "updated", "unchanged", "refused")):
            found.append(f"{name}: {written} does not add up")
    if list(outcome.quality) != full.quality:
        found.append(
            f"data_quality {[pair for pair in zip(outcome.quality, full.quality, strict=True) if pair[0] != pair[1]]}"
        )
    if dict(outcome.headline) != dict(full.counts.headline):
        found.append(f"headline {outcome.headline} and {full.counts.headline}")
    refused = _refused(project)
    for what, keys in full.differs.items():
        expected = refused.get(what.split()[0], []) if what.endswith("to write") and "rejects" not in what else []
        if sorted(keys) != sorted(expected):
            found.append(f"{what}: {sorted(keys)[:5]}, refused {expected[:5]}")
    return found


def _published(project: Project, outcome: RunOutcome) -> dict[str, tuple[str, int]]:
    entries = [e for e in outcome.files if e.path.endswith(".parquet")]
    for entry in entries:
        body = project.file(f"{outcome.run_path}/{entry.path}")
        assert body is not None, entry.path
        assert hashlib.sha256(body).hexdigest() == entry.sha256, entry.path
    return {e.path: (e.sha256, e.rows) for e in entries}


def _refused(project: Project) -> dict[str, list[str]]:
    rows = project.stack.query(f"select \"table\", key from etl_reject_rows where rule = '{REFUSED_RULE}'")
    found: dict[str, list[str]] = {}
    for line in rows.splitlines():
        table, key = line.split("|")
        found.setdefault(table, []).append(key)
    return found
