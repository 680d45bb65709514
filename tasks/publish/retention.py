"""What stays in the bucket, and what goes.

Every run of the last `keep_days` days stays complete; of older runs the last of each month, pruned: without the files
that name user ids, and its manifest says so. A run of that month's nights outranks a backfill computed later. What
latest.json names stays as it is, a run that is running is not touched, and what a run left incomplete goes after a
day. Exports go with the runs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from tasks.contracts import REPORTS
from tasks.errors import PipelineError, PublishError, report_of
from tasks.files.layout import EXPORTS, RUNS, day_of, day_of_folder, instant, is_day, manifest_path, run_id_of_folder
from tasks.files.manifest import Manifest
from tasks.files.published import NotAsPublished, find_manifest, read_pointer
from tasks.platform.bucket import Bucket
from tasks.platform.buckets import each
from tasks.platform.storage_rights import lacks_delete
from tasks.settings import Settings

LEFTOVER_AFTER = timedelta(days=1)
RUNNING = frozenset({"running", "loading"})
UNFINISHED = frozenset({"failed", "held"})
_AGGREGATES = frozenset(f"reports/{report.name}.parquet" for report in REPORTS if not report.names_users)

Verb = Literal["keep", "prune", "remove"]


@dataclass(frozen=True, slots=True)
class Published:
    """A run's folder as it is in the bucket. newest: when its last file was stored; None where Storage does not say.

    unreadable: there is a manifest, but not as this program writes it.
    """

    path: str
    manifest: Manifest | None
    newest: datetime | None = None
    unreadable: bool = False

    @property
    def run_id(self) -> str:
        return run_id_of_folder(self.path.rpartition("/")[2])


@dataclass(frozen=True, slots=True)
class Action:
    """What happens to a run (or a day's exports), and why. files: those that go, of a run that is pruned."""

    verb: Verb
    path: str
    why: str
    files: tuple[str, ...] = ()


def retain(
    settings: Settings,
    statuses: Mapping[str, str],
    *,
    now: datetime,
    keep_days: int | None = None,
    dry_run: bool = False,
    base: str | None = None,
) -> list[Action]:
    """Bring the bucket to what should stay; the actions, also those of a dry run, which changes nothing.

    statuses: of each run in the ledger that did not commit, by its id; any other counts as committed once it has a
    manifest. now: the clock. base: the run that the next night starts from, which stays whole.
    Killed at any point and started again it continues. PublishError when latest.json cannot be read: then nobody knows
    which run must stay; and when files stay that are to go.
    """
    days = keep_days or settings.keep_days
    with Bucket(settings) as bucket:
        runs = survey(settings, bucket)
        actions = plan(runs, statuses, latest=_latest(bucket), now=now, keep_days=days, base=base)
        actions += _old_exports(bucket, now=now, keep_days=days)
        if dry_run:
            return actions
        manifests = {run.path: run.manifest for run in runs}
        return _all_carried_out(bucket, actions, manifests, now=now)


def _all_carried_out(
    bucket: Bucket, actions: Sequence[Action], manifests: Mapping[str, Manifest | None], *, now: datetime
) -> list[Action]:
    """What was done. An error says how far it got: what was removed until then is gone."""
    done: list[Action] = []
    try:
        for action in actions:
            outcome = _carried_out(bucket, action, manifests.get(action.path), now=now)
            done.append(outcome)
    except (PipelineError, KeyboardInterrupt) as error:
        removed, due = (sum(of.verb != "keep" for of in some) for some in (done, actions))
        report_of(error).written = (
            f"Removed: {removed:,} of {due:,} runs and folders of exports that are past their time; of "
            f"{actions[len(done)].path} perhaps some files."
        )
        raise
    return done


def _latest(bucket: Bucket) -> str | None:
    """The path of the run that readers get."""
    try:
        pointer = read_pointer(bucket)
    except NotAsPublished as problem:
        raise PublishError(
            f"{problem}. Nothing was removed.", remedy="Start a run: it writes latest.json again."
        ) from None
    return pointer.run if pointer else None


def survey(settings: Settings, bucket: Bucket) -> list[Published]:
    """All runs in the bucket, with their manifests where they have one."""
    days = bucket.folders(RUNS)
    paths = [f"{RUNS}/{day}/{run}" for day in days for run in bucket.folders(f"{RUNS}/{day}")]
    return sorted(each(settings, _look_at, paths), key=lambda run: run.path)


def run_ids(settings: Settings, days: Collection[str]) -> set[str]:
    """The runs of these days whose files are in the bucket, by their ids. days: as `2026-01-31`."""

    def of_day(bucket: Bucket, folder: str) -> list[str]:
        return [run_id_of_folder(run) for run in bucket.folders(f"{RUNS}/{folder}")]

    with Bucket(settings) as bucket:
        folders = [folder for folder in bucket.folders(RUNS) if day_of_folder(folder) in days]
    return {run_id for ids in each(settings, of_day, folders) for run_id in ids}


def _look_at(bucket: Bucket, path: str) -> Published:
    unreadable = False
    try:
        manifest = find_manifest(bucket, path)
    except NotAsPublished:
        manifest, unreadable = None, True
    if manifest:
        return Published(path, manifest)
    stored = [instant(file.created_at) for file in bucket.walk(path) if file.created_at]
    return Published(path, None, max(stored, default=None), unreadable)


def plan(
    runs: Sequence[Published],
    statuses: Mapping[str, str],
    *,
    latest: str | None,
    now: datetime,
    keep_days: int,
    base: str | None = None,
) -> list[Action]:
    """What to do with each run. A run's age counts from its beginning: a backfill of last year is young today."""
    actions: list[Action] = []
    older: dict[str, list[Published]] = defaultdict(list)
    for run in runs:
        status = statuses.get(run.run_id, "committed")
        if status in RUNNING or run.path == latest:
            actions.append(Action("keep", run.path, "is running" if status in RUNNING else "is what readers get"))
        elif run.run_id == base:
            actions.append(Action("keep", run.path, "is what the next night starts from"))
        elif run.manifest is None or status in UNFINISHED:
            actions.append(_leftover(run, status, now, keep_days))
        elif now - run.manifest.started_at <= timedelta(days=keep_days):
            actions.append(Action("keep", run.path, f"is younger than ETL_KEEP_DAYS, {keep_days}"))
        else:
            older[day_of(run.manifest.as_of)[:7]].append(run)
    for month, of_month in older.items():
        actions += _month(month, of_month)
    return sorted(actions, key=lambda action: action.path)


def _leftover(run: Published, status: str, now: datetime, keep_days: int) -> Action:
    stored = run.manifest.started_at if run.manifest else run.newest
    stays = timedelta(days=keep_days) if run.unreadable else LEFTOVER_AFTER
    if stored is not None and now - stored <= stays:
        return Action("keep", run.path, "has a manifest that cannot be read" if run.unreadable else "is not a day old")
    return Action("remove", run.path, f"its run was {status}" if run.manifest else "was left incomplete")


def _month(month: str, runs: Sequence[Published]) -> list[Action]:
    """Of the runs of a month that are old, the last one is pruned and the others go."""
    manifests = [(run, run.manifest) for run in runs if run.manifest]
    *others, (last, manifest) = sorted(manifests, key=lambda pair: pair[1].rank)
    return [
        *(Action("remove", run.path, f"is not the last of {month}") for run, _ in others),
        _prune(month, last.path, manifest),
    ]


def _prune(month: str, path: str, manifest: Manifest) -> Action:
    files = tuple(entry.path for entry in manifest.files if names_users(entry.path))
    if not files:
        return Action("keep", path, f"is the last of {month}, aggregates only")
    return Action("prune", path, f"is the last of {month}: aggregates stay", files)


def names_users(path: str) -> bool:
    """Whether a run's file may name user ids: all but charts and the reports that the contracts call free of them."""
    return not path.startswith("charts/") and path not in _AGGREGATES


def _old_exports(bucket: Bucket, *, now: datetime, keep_days: int) -> list[Action]:
    """Exports of a day that is long past: they may name user ids, and their links have expired."""
    oldest = (now - timedelta(days=keep_days)).date().isoformat()
    folders = {folder: day_of_folder(folder) for folder in bucket.folders(EXPORTS)}
    days = [folder for folder, day in folders.items() if is_day(day) and day < oldest]
    return [Action("remove", f"{EXPORTS}/{day}", f"exports older than {keep_days} days") for day in days]


def _carried_out(bucket: Bucket, action: Action, manifest: Manifest | None, *, now: datetime) -> Action:
    """What was done. Readers may have been pointed to a run since this was planned, by a restore: it stays."""
    if action.verb != "keep" and action.path == _latest(bucket):
        return Action("keep", action.path, "is what readers get")
    if action.verb == "remove":
        _remove(bucket, action.path)
    elif action.verb == "prune" and manifest:
        # Files first: killed between the two, the next time finds the same to do.
        _delete(bucket, action.path, [f"{action.path}/{file}" for file in action.files])
        bucket.replace(manifest_path(action.path), manifest.without(action.files, at=now).to_json())
    return action


def _remove(bucket: Bucket, path: str) -> None:
    """The manifest first: from then on no list shows the run, and what stays of it is a leftover."""
    manifest = manifest_path(path)
    files: Collection[str] = [file.path for file in bucket.walk(path)]
    _delete(bucket, path, [manifest] if manifest in files else [])
    _delete(bucket, path, [file for file in files if file != manifest])


def _delete(bucket: Bucket, path: str, files: Sequence[str]) -> None:
    """PublishError where files stay: without the right to delete, Storage takes the request and deletes none."""
    if bucket.remove(files) < len(files) and (left := {file.path for file in bucket.walk(path)}.intersection(files)):
        raise PublishError(
            f"{len(left):,} files of {path} are past their time and cannot be deleted.",
            remedy=lacks_delete(bucket.name),
        )
