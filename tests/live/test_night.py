"""The scheduled night goes first, in any time zone."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from prefect.server.schemas.schedules import CronSchedule

from tasks.errors import SettingsError
from tasks.live.night import Night

NIGHT = Night("0 3 * * *", "Europe/Berlin", timedelta(minutes=10))
WINTER = datetime(2026, 1, 31, 2, 0, tzinfo=UTC)  # 3 o'clock in Berlin
SPRING = datetime(2026, 3, 29, 1, 0, tzinfo=UTC)  # there 3 o'clock follows 1:59 on this day


@pytest.mark.parametrize(
    ("minutes", "started", "open_"),
    [
        (-60, None, True),
        (-11, None, True),
        (-10, None, False),
        (0, None, False),
        (2, None, False),
        (2, timedelta(minutes=1), True),
        (2, -timedelta(hours=1), False),
        (10, None, True),
    ],
)
@pytest.mark.parametrize("night", [WINTER, SPRING])
def test_nothing_starts_around_a_night_that_has_not_started(
    night: datetime, minutes: int, started: timedelta | None, open_: bool
) -> None:
    last = night + started if started else None
    closed = NIGHT.closed_until(night + timedelta(minutes=minutes), last_started=last, run_seconds=20)
    assert (closed is None) == open_
    assert closed is None or closed == night + timedelta(minutes=10)


def test_a_long_run_needs_a_longer_way() -> None:
    before = WINTER - timedelta(minutes=40)
    assert NIGHT.closed_until(before, last_started=None, run_seconds=1_565) is None
    assert NIGHT.closed_until(before, last_started=None, run_seconds=1_575) is not None


def test_one_run_that_took_longer_than_lies_between_two_nights_keeps_no_other_from_starting() -> None:
    """A watch that never started a run again counted as healthy."""
    hourly = Night("0 * * * *", "UTC", timedelta(minutes=10))
    early, late = (
        hourly.closed_until(WINTER + timedelta(minutes=minutes), last_started=WINTER, run_seconds=3_000)
        for minutes in (20, 40)
    )
    assert early is None
    assert late is not None


@pytest.mark.parametrize(
    ("cron", "minutes"), [("0 3 * * *", 1_439), ("*/10 * * * *", 9), ("*/5 * * * 1", 5), ("0 0 1 1 *", 500_000)]
)
def test_minutes_that_lie_between_two_nights_are_taken(cron: str, minutes: int) -> None:
    Night(cron, "UTC", timedelta(minutes=minutes)).require_time_between()


@pytest.mark.parametrize(
    ("cron", "minutes", "least"),
    [
        ("0 3 * * *", 1_440, "1440"),
        ("*/10 * * * *", 10, "10"),
        ("0 3 * * 1-5", 4_321, "4320"),
        ("0 0 1 1 *", 527_040, "527040"),
    ],
)
def test_minutes_as_long_as_all_of_the_time_between_two_nights_are_refused(cron: str, minutes: int, least: str) -> None:
    """Nothing ever started a run, and the watch counted as healthy."""
    with pytest.raises(SettingsError, match=f"{least} minutes apart at most") as refused:
        Night(cron, "UTC", timedelta(minutes=minutes)).require_time_between()
    assert f"less than {least}" in str(refused.value)


@pytest.mark.parametrize("night", [WINTER, SPRING])
def test_a_run_that_is_running_yields_just_before(night: datetime) -> None:
    assert not NIGHT.yields(night - timedelta(minutes=2))
    assert NIGHT.yields(night - timedelta(seconds=30))


def test_summer_time_is_followed() -> None:
    assert NIGHT.next(datetime(2026, 7, 1, 0, 0, tzinfo=UTC)) == datetime(2026, 7, 1, 1, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("cron", "zone"),
    [
        ("30 2 * * *", "Europe/Berlin"),
        ("0 2 * * *", "Europe/Berlin"),
        ("30 1 * * *", "America/New_York"),
        ("15 0 * * *", "America/Santiago"),
        ("0 2 * * *", "Australia/Lord_Howe"),
    ],
)
def test_the_nights_are_those_of_prefect_also_when_clocks_are_changed(cron: str, zone: str) -> None:
    night = Night(cron, zone, timedelta(minutes=10))
    schedule, start = CronSchedule(cron=cron, timezone=zone), datetime(2026, 1, 1, tzinfo=UTC)
    nights = asyncio.run(schedule.get_dates(n=1_500, start=start, end=start + timedelta(days=365)))
    assert len(nights) > 250
    for due in (datetime.fromtimestamp(at.timestamp(), UTC) for at in nights):
        assert night.next(due - timedelta(seconds=1)) == due
        closed = night.closed_until(due + timedelta(minutes=5), last_started=None, run_seconds=1)
        assert closed
        assert closed.astimezone(UTC) == due + night.clear
