"""The pipeline as a whole: the order of the stages, and what a run comes to."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import asdict, replace

from flows.engine import stages
from flows.engine.outcome import RunOutcome, RunRequest
from flows.engine.run import Run, open_run
from tasks.cleaning.samples import load_samples
from tasks.contracts import DATA_QUALITY
from tasks.errors import LeaseHeld, TransientError
from tasks.files.manifest import HISTORICAL_NOTE, ManifestRef
from tasks.reports.build import headline, read_report_spool, run_counts
from tasks.settings import Settings, load_settings
from tasks.sink import LoadCounts, TablePlan

logger = logging.getLogger(__name__)


def run_pipeline(request: RunRequest) -> RunOutcome:
    """Run every stage once; what a new start can mend is started again, with the same as_of.

    Raises LeaseHeld when another run is at work, RunHeld when a figure is out of bounds, and any other PipelineError
    when the run failed. Nothing half done is visible then, and the ledger says what happened.
    """
    settings = settings_for(request)
    for attempt in range(settings.run_retries + 1):
        try:
            return _run_once(settings, request if attempt == 0 else replace(request, as_of=_again(request)))
        except LeaseHeld:
            raise
        except TransientError as error:
            if attempt == settings.run_retries or request.dry_run:
                raise
            logger.warning("%s Started again in %d s.", error, settings.run_retry_seconds)
            time.sleep(settings.run_retry_seconds)
    raise AssertionError("unreachable")


def settings_for(request: RunRequest) -> Settings:
    """The settings of this process, with the transport that the request asks for."""
    return load_settings() if request.transport == "auto" else load_settings(transport=request.transport)


def _again(request: RunRequest) -> str:
    """`now` and `midnight` are those of the first try; an instant is itself."""
    return "resume" if request.as_of in ("now", "midnight") else request.as_of


def _run_once(settings: Settings, request: RunRequest) -> RunOutcome:
    with open_run(settings, request) as run:
        sources = stages.check_sources(run)
        read_posts = stages.read_posts(run, sources)
        read_users = stages.read_users(run, read_posts)
        settled = stages.settle_orphans(run, read_posts, read_users)
        users = stages.clean_the_users(run, settled)
        posts = stages.clean_the_posts(run, users)
        counts = stages.build_the_reports(run, users, posts)
        plans = stages.compare(run, counts)
        approved = stages.guard(run, counts, plans)
        if request.dry_run:
            return _outcome(run, plans)
        files = stages.write_the_files(run, approved)
        manifest = stages.publish_the_files(run, files)
        loaded = stages.load_and_commit(run, manifest, approved)
        stages.point_to_it(run, manifest, loaded)
        return _outcome(run, loaded, manifest, files)


def _outcome(
    run: Run,
    written: Mapping[str, TablePlan] | Mapping[str, LoadCounts],
    manifest: ManifestRef | None = None,
    files: stages.Files | None = None,
) -> RunOutcome:
    counts = run_counts(run.workspace)
    return RunOutcome(
        status="committed" if manifest else "dry run",
        run_id=run.lease.run_id,
        as_of=run.as_of,
        began=run.began,
        transport=run.lease.transport,
        headline=headline(run.workspace),
        tables={name: {**of, **_written(written, name)} for name, of in counts["tables"].items()},
        quality=read_report_spool(run.workspace, DATA_QUALITY).to_pylist(),
        stages=run.stages,
        samples=load_samples(run.workspace),
        run_path=manifest.run_path if manifest else None,
        files=files.entries if files else (),
        last=run.lease.last,
        notes=[HISTORICAL_NOTE] if run.lease.historical else [],
    )


def _written(written: Mapping[str, TablePlan] | Mapping[str, LoadCounts], name: str) -> dict[str, int]:
    return asdict(written[name]) if name in written else {}
