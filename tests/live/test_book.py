"""When a run is due: by counts alone, for any order of changes, polls, runs, failures and runs of others."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from tasks.live.book import Book, Rhythm
from tasks.live.counts import Counts, SourceCount

START = datetime(2026, 1, 31, tzinfo=UTC)
RHYTHM = Rhythm(changes=10, seconds=60, every=120)


def counts(changes: int, at: float = 0.0, **more: object) -> Counts:
    known = Counts(START + timedelta(seconds=at), "epoch", {"posts": SourceCount(changes, "marker")})
    return replace(known, **more)  # type: ignore[arg-type]


def read_at(second: float) -> dict[str, object]:
    """What a poll says of a committed run that has what was there then."""
    at = START + timedelta(seconds=second)
    return {"read_at": at, "started_at": at}


def book(base: int = 0) -> Book:
    return Book(RHYTHM, counts(base))


def test_nothing_changed_nothing_is_due() -> None:
    quiet = book(7)
    for second in range(1_000):
        quiet.observe(counts(7, second), second)
        assert quiet.due_at() is None


def test_a_single_change_waits_for_the_time_and_many_do_not() -> None:
    one = book()
    assert one.observe(counts(1, 5), 5) == 1
    assert one.due_at() == 65
    assert one.observe(counts(9, 20), 20) == 8, "new since the poll before"
    assert one.due_at() == 65, "the first change counts the time"
    one.observe(counts(10, 30), 30)
    assert one.due_at() == 5, "at once"


def test_from_start_to_start_there_is_a_pause() -> None:
    busy = book()
    busy.observe(counts(50, 1), 1)
    busy.start(counts(50, 1), 1)
    busy.commit()
    busy.observe(counts(100, 2), 2)
    assert busy.due_at() == 121


def test_changes_during_a_run_lead_to_another_one() -> None:
    during = book()
    during.observe(counts(10, 1), 1)
    during.start(counts(10, 1), 1)
    during.observe(counts(12, 2), 2)
    assert during.due_at() is None, "never two at once"
    during.commit()
    during.observe(counts(12, 3), 3)
    assert during.pending == 2
    assert during.due_at() == 121


def test_a_failed_run_leaves_its_changes_pending_and_waits_longer_each_time() -> None:
    failing, now, pauses = book(), 0.0, []
    for _ in range(8):
        failing.observe(counts(10, now), now)
        due = failing.due_at()
        assert due is not None
        now = max(now, due)
        failing.start(counts(10, now), now)
        failing.fail(now)
        assert failing.pending == 10
        pauses.append(failing.not_before - now)
    assert pauses == [120, 240, 480, 960, 1_920, 3_600, 3_600, 3_600]
    failing.start(counts(10, now), now)
    failing.commit()
    failing.observe(counts(20, now), now)
    failing.start(counts(20, now), now)
    failing.fail(now)
    assert failing.not_before - now == 120, "the failures before a commit do not count"


def test_a_run_that_gave_way_is_tried_again_after_a_pause() -> None:
    yielding = book()
    yielding.observe(counts(50, 1), 1)
    yielding.start(counts(50, 1), 1)
    yielding.give_way(200, 15)
    assert (yielding.pending, yielding.due_at()) == (50, 215)


def test_what_another_run_has_read_is_not_pending_any_more() -> None:
    """The scheduled night reads what a watch was about to."""
    other = book()
    other.observe(counts(5, 10), 10)
    other.observe(counts(5, 40, **read_at(20)), 40)
    assert other.pending == 0
    assert other.due_at() is None
    other.observe(counts(6, 50, **read_at(20)), 50)
    assert (other.pending, other.due_at()) == (1, 110), "the time counts from the change that is pending"


def test_what_another_run_has_read_since_ours_started_stays_published() -> None:
    slow = book()
    slow.observe(counts(5, 10), 10)
    slow.start(counts(5, 10), 10)
    slow.observe(counts(8, 40), 40)
    slow.observe(counts(8, 60, **read_at(50)), 60)
    slow.commit()
    slow.observe(counts(8, 70, **read_at(50)), 70)
    assert slow.pending == 0


def test_a_run_that_failed_beside_one_that_has_read_its_changes_leaves_nothing_pending() -> None:
    beaten = book()
    beaten.observe(counts(5, 10), 10)
    beaten.start(counts(5, 10), 10)
    beaten.observe(counts(5, 40, **read_at(20)), 40)
    beaten.fail(50)
    assert (beaten.pending, beaten.due_at()) == (0, None)


def test_after_the_clock_of_the_database_was_set_back_a_run_is_of_what_it_has_read() -> None:
    """Until the clock had caught up one run followed another: each seemed to be of before the last one."""
    ahead = book()
    ahead.observe(counts(5, 3_600), 1)
    ahead.start(counts(5, 3_600), 1)
    ahead.commit()
    ahead.observe(counts(8, 10), 130)
    ahead.start(counts(8, 10), 130)
    ahead.commit()
    ahead.observe(counts(8, 20), 140)
    assert ahead.pending == 0


def test_what_changed_before_a_watch_began_is_pending_also_by_a_clock_that_was_set_back() -> None:
    """All of it counted as read by a run of the future."""
    kept = Book(RHYTHM, counts(5, 3_600))
    kept.observe(counts(7, 10, **read_at(3_500)), 1)
    assert kept.pending == 2


def test_after_a_held_run_whose_metric_somebody_has_accepted_changes_do_not_wait_for_the_hour() -> None:
    held = book()
    held.observe(counts(50, 10), 10)
    held.start(counts(50, 10), 10)
    held.fail(20, least=3_600)
    assert held.due_at() == 3_620
    held.observe(counts(50, 330, **read_at(300)), 330)
    assert (held.pending, held.failures) == (0, 0), "accepted, and read"
    held.observe(counts(70, 400, **read_at(300)), 400)
    assert held.due_at() == 400
    held.start(counts(70, 400), 400)
    held.fail(410)
    held.observe(counts(70, 420, **read_at(300)), 420)
    assert (held.failures, held.due_at()) == (1, 530), "that commit was before"


def test_a_change_after_the_last_poll_before_a_reading_stays_pending() -> None:
    other = book()
    other.observe(counts(5, 21), 21)
    other.observe(counts(5, 40, **read_at(20)), 40)
    assert other.pending == 5, "nobody knows whether the run has seen it"


def test_a_night_as_of_midnight_takes_back_what_a_run_of_later_had_published() -> None:
    """Readers lacked the rows of the hours since midnight until the next change, which may be long."""
    kept = book()
    for second in (10, 100):
        kept.observe(counts(second, second), second)
    kept.start(counts(100, 100), 100)
    kept.commit()
    kept.observe(counts(100, 130, **read_at(101)), 130)
    assert kept.pending == 0
    night = {"read_at": START + timedelta(seconds=50), "started_at": START + timedelta(seconds=200)}
    kept.observe(counts(100, 230, **night), 230)
    assert kept.pending == 90
    kept.start(counts(100, 230), 240)
    kept.commit()
    kept.observe(counts(100, 245, **night), 245)  # asked before that run had committed
    assert kept.pending == 0


def test_what_a_night_took_back_while_nobody_watched_is_pending() -> None:
    for base in (counts(100, 100), None):  # None: as the first watch of a project begins
        started_again = Book(RHYTHM, base)
        started_again.observe(counts(100, 300, **read_at(50)), 300)
        assert started_again.pending == 1


def test_what_cannot_be_compared_counts_as_changed() -> None:
    base = counts(7)
    assert counts(7).since(None) == 1
    assert counts(7, epoch="restarted").since(base) == 1
    assert counts(3).since(base) == 1
    assert counts(7, sources={"posts": SourceCount(7, "truncated")}).since(base) == 1
    assert counts(7, sources={"posts": SourceCount(7, "marker"), "new": SourceCount(0, "m")}).since(base) == 1
    assert counts(9, epoch="restarted").since(base) == 2


STEPS = st.lists(
    st.tuples(st.sampled_from(["change", "poll", "commit", "fail", "yield"]), st.integers(1, 30)), max_size=80
)


@given(STEPS)
def test_every_change_is_read_by_a_run_that_starts_in_time(steps: list[tuple[str, int]]) -> None:
    """Changes at any instant, runs that end in any way: no change is forgotten, and no run is for nothing.

    Long, as the steps share what they count.
    """
    total, now, published, reading = 0, 0.0, 0, 0
    kept = book()

    def poll() -> None:
        nonlocal reading
        kept.observe(counts(total, now), now)
        due = kept.due_at()
        if due is not None and due <= now:
            assert total > published, "a run for nothing"
            reading = total
            kept.start(counts(total, now), now)

    for what, amount in steps:
        now += amount
        if what == "change":
            total += amount
        elif what == "poll" or not kept.running:
            poll()
        elif what == "commit":
            kept.commit()
            published = reading
        elif what == "fail":
            kept.fail(now)
        else:
            kept.give_way(now, 15)
    if kept.running:
        kept.commit()
        published = reading
    now += 4_000
    poll()
    now += 4_000
    poll()
    assert (reading if kept.running else published) == total
