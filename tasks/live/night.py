"""The scheduled night goes first: when a run that changes start would be in its way."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from typing import cast
from zoneinfo import ZoneInfo

from croniter import croniter

from tasks.errors import SettingsError
from tasks.settings import Settings

_NIGHTS = 2_000  # looked at for the longest time between two: more than a day of one every minute
_LONGEST_CHANGE = timedelta(hours=2)  # of a zone's clocks
YIELD_SECONDS = 45.0  # a run of ours ends so long before the night, with time to give the lease back


@dataclass(frozen=True, slots=True)
class Night:
    """The schedule of the nightly. clear: how long before it nothing starts, and how long after it is waited for."""

    cron: str
    timezone: str
    clear: timedelta

    @classmethod
    def of(cls, settings: Settings) -> Night:
        return cls(settings.cron, settings.timezone, timedelta(minutes=settings.watch_clear_minutes))

    def require_time_between(self) -> None:
        """SettingsError where the time kept clear before a night reaches back to the night before, each time."""
        nights = cast(Iterator[datetime], croniter(self.cron, datetime.now(UTC)).all_next(datetime))
        longest = timedelta()
        for before, after in pairwise(islice(nights, _NIGHTS)):
            longest = max(longest, after - before)
            if longest > self.clear:
                return
        minutes = longest / timedelta(minutes=1)
        raise SettingsError(
            f"ETL_WATCH_CLEAR_MINUTES is {self.clear / timedelta(minutes=1):g}, and the scheduled nights (ETL_CRON: "
            f"{self.cron}) are {minutes:g} minutes apart at most: no change would ever start a run.",
            remedy=f"Set it to less than {minutes:g}.",
        )

    def next(self, now: datetime) -> datetime:
        """The next scheduled night after `now`, in UTC."""
        _, coming = self._beside(now)
        return coming

    def closed_until(self, now: datetime, *, last_started: datetime | None, run_seconds: float) -> datetime | None:
        """Until when nothing may start, in the schedule's zone; None when a run may. run_seconds: how long one takes.

        After its instant the night is waited for, until a run has started since (`last_started`) or its time is over.
        One run that was slow must not keep all later ones from starting: it counts for half of the time at most.
        """
        past, coming = self._beside(now)
        zone = ZoneInfo(self.timezone)
        needed = min(timedelta(seconds=1.5 * run_seconds + YIELD_SECONDS), (coming - past) / 2)
        if now >= coming - max(self.clear, needed):
            return (coming + self.clear).astimezone(zone)
        if now < past + self.clear and not (last_started and last_started >= past):
            return (past + self.clear).astimezone(zone)
        return None

    def yields(self, now: datetime) -> bool:
        """Whether a run of ours that is still running has to end now."""
        return now >= self.next(now) - timedelta(seconds=YIELD_SECONDS)

    def _beside(self, now: datetime) -> tuple[datetime, datetime]:
        """The last night that is not after `now`, and the first that is."""
        nights = self._around(now)
        return max(night for night in nights if night <= now), min(night for night in nights if night > now)

    def _around(self, now: datetime) -> set[datetime]:
        """The nights near `now` and the next ones before and after it, in UTC.

        When clocks are changed, a time of day is two instants or, in the hour that is left out, an hour early or late:
        which of both Prefect takes depends on its server's version of Python, so either may be the night.
        """
        zone = ZoneInfo(self.timezone)
        local = now.astimezone(zone).replace(tzinfo=None)
        cron = croniter(self.cron, local - _LONGEST_CHANGE)
        times = [cast(datetime, cron.get_prev(datetime))]
        while times[-1] <= local + _LONGEST_CHANGE:
            times.append(cast(datetime, cron.get_next(datetime)))
        return {time.replace(tzinfo=zone, fold=fold).astimezone(UTC) for time in times for fold in (0, 1)}
