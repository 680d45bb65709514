"""Every change is published within T plus one poll: by the watch's own clock, in simulated time."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.live.simulated import Project, watch_for

# Changes, T, from start to start, poll: the defaults, one that starts at once, and two that are in a hurry.
RHYTHMS: list[tuple[int, float, float, float]] = [
    (100, 300, 300, 30),
    (1, 10, 0, 5),
    (10, 60, 120, 30),
    (5, 1.2, 1.2, 2),
]
rhythms = pytest.mark.parametrize("rhythm", RHYTHMS, ids=str)
POLLS = 150


def latest_start(project: Project, at: float, number: int, every: float, limit: float) -> float:
    """By when the run that reads a change must have started: after the change, and after what was in its way."""
    if not number:
        return at + limit
    before = project.runs[number - 1]
    return max(at + limit, before.ended + limit, before.at + every)


@rhythms
def test_every_change_is_published_within_t_plus_one_poll(rhythm: tuple[int, ...], tmp_path: Path) -> None:
    _watch(rhythm, tmp_path, 0)


def test_the_night_is_known_by_the_databases_clock(tmp_path: Path) -> None:
    """A machine whose clock was hours wrong gave way to a night that was not due, and not to one that was."""
    rhythm: dict[str, Any] = {
        "watch_changes": 1,
        "watch_minutes": 0.1,
        "watch_every_minutes": 0,
        "watch_poll_seconds": 5,
    }
    project = watch_for(3_600, tmp_path, 0, cron="30 0 * * *", timezone="UTC", watch_clear_minutes=10, **rhythm)
    minutes = [run.at / 60 for run in project.runs]
    assert [minute for minute in minutes if 20 <= minute < 40] == []
    assert len(minutes) > 10


def test_an_outage_of_hours_is_reported_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Each poll logged that it was tried again: a line every half a minute, or every second beside a run."""
    project = watch_for(4 * 3_600, tmp_path, 0, away=(3_600, 3 * 3_600))
    said = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert said[-1] == "watch: the database answers again."
    assert len(said) <= 3, said
    assert {at for run in project.runs for at in run.changes} == set(project.every_change)


def test_a_machine_without_room_for_a_run_is_tried_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The server that forks runs dies of it: the watch ended, as of a defect."""
    project = watch_for(4 * 3_600, tmp_path, 0, full=1_800)
    said = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert said[0] == "watch: the run failed: It could not be started (EOFError). It is tried again in 300 s."
    assert {at for run in project.runs for at in run.changes} == set(project.every_change)


def test_a_disk_that_takes_nothing_is_reported_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Each poll logged it, for the note of the base and for the health file."""
    (tmp_path / "no_folder").touch()
    project = watch_for(3_600, tmp_path / "no_folder" / "data", 0)
    said = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(said) == len(set(said)) == 2, said
    assert ["watch.json cannot be written" in line for line in said].count(True) == 1
    assert {at for run in project.runs for at in run.changes} == set(project.every_change)


@pytest.mark.soak
@pytest.mark.timeout(600)
@rhythms
@pytest.mark.parametrize("seed", range(1, 26))
def test_every_change_is_published_within_t_plus_one_poll_a_hundred_times(
    rhythm: tuple[int, ...], seed: int, tmp_path: Path
) -> None:
    _watch(rhythm, tmp_path, seed)


def _watch(rhythm: tuple[int, ...], folder: Path, seed: int) -> None:
    changes, t, every, poll = rhythm
    settings: dict[str, Any] = {
        "watch_changes": changes,
        "watch_minutes": t / 60,
        "watch_every_minutes": every / 60,
        "watch_poll_seconds": poll,
    }
    project = watch_for(max(1_200, POLLS * poll, 40 * (t + poll)), folder, seed, **settings)
    published = {at: number for number, run in enumerate(project.runs) for at in run.changes}
    assert set(published) == set(project.every_change), "every change is published"
    for at, number in published.items():
        assert project.runs[number].at <= latest_start(project, at, number, every, t + poll) + 1e-6, (at, number)
    assert all(run.changes for run in project.runs[1:]), "no run for nothing; the first one finds out what there is"
    assert all(later.at - earlier.at >= every - 1e-6 for earlier, later in pairwise(project.runs))
    assert len(project.runs) > 1
