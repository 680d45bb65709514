"""Days with many runs, as a watch makes them: few manifests are read, and the answer is that of all of them."""

from __future__ import annotations

import dataclasses
import json
import random
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from tasks.errors import ReadError
from tasks.files.layout import run_path
from tasks.files.manifest import Manifest, to_json
from tasks.platform.bucket import Bucket
from tasks.publish.retention import retain
from tasks.read import list_runs, open_run, read_history, run_before
from tasks.settings import Settings
from tests.publish.builders import AS_OF, SNAPSHOT_AT
from tests.read.conftest import Bucketful, SignIn

DAY = AS_OF - timedelta(days=1)
RUNS = 12
EVERY = timedelta(minutes=90)
FILES = ("reports/data_quality", "reports/author_activity")


@dataclasses.dataclass(frozen=True)
class Another:
    """A run that is a copy of `later`, but for this."""

    as_of: datetime
    started_at: datetime
    run_id: str
    historical: bool = False

    @classmethod
    def now(cls, at: datetime, number: int) -> Another:
        return cls(at, at, f"{at:%Y%m%dT%H%M%SZ}-{number:08x}")


def add(bucketful: Bucketful, *runs: Another, files: tuple[str, ...] = FILES) -> list[Manifest]:
    """Publish copies of `later`, with the files of it that begin so."""
    with Bucket(bucketful.settings) as bucket:
        original = json.loads(bucket.download(bucketful.later.path))
        listed = [entry for entry in original["files"] if entry["path"].startswith(files)]
        for run in runs:
            new = run_path(run.run_id, run.as_of)
            for entry in listed:
                bucket.copy(f"{original['run']}/{entry['path']}", f"{new}/{entry['path']}")
            instants = {"as_of": run.as_of.isoformat(), "started_at": run.started_at.isoformat()}
            changes = {
                "run": new,
                "run_id": run.run_id,
                "historical": run.historical,
                "files": listed or original["files"],
            }
            bucket.store(f"{new}/manifest.json", to_json({**original, **instants, **changes}))
    return manifests(bucketful.settings)


def manifests(settings: Settings) -> list[Manifest]:
    """All of them, as they are."""
    with Bucket(settings) as bucket:
        paths = [file.path for file in bucket.walk("runs") if file.path.endswith("/manifest.json")]
        return [Manifest.model_validate_json(bucket.download(path)) for path in paths]


@pytest.fixture
def busy(changeable: Bucketful) -> Bucketful:
    """A day with a run every 90 minutes and the night that ends it, `later`."""
    runs = [Another.now(DAY + EVERY * number + timedelta(microseconds=1), number) for number in range(RUNS)]
    add(changeable, *runs)
    return changeable


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The requests that were sent."""
    sent, send = list[str](), httpx.HTTPTransport.handle_request

    def handle(self: httpx.HTTPTransport, request: httpx.Request) -> httpx.Response:
        sent.append(f"{request.method} {request.url.path}")
        return send(self, request)

    monkeypatch.setattr(httpx.HTTPTransport, "handle_request", handle)
    return sent


def read_of(asked: list[str]) -> int:
    """How many manifests were downloaded since this was asked for the last time."""
    found = sum(request.startswith("GET") and request.endswith("manifest.json") for request in asked)
    asked.clear()
    return found


def test_a_day_that_is_over_reads_the_runs_that_may_end_it(busy: Bucketful, asked: list[str]) -> None:
    """Every run's manifest was downloaded, each time: 288 of a day with a run every five minutes."""
    for manifests_read in (2, 1):  # to choose it, and to read it as it is now
        with open_run(as_of=date(2026, 1, 31), settings=busy.settings) as run:
            assert run.run_id == "later"
        assert read_of(asked) == manifests_read
    assert len(read_history("data_quality", settings=busy.settings).attrs["runs"]) == 2
    assert read_of(asked) == 3  # the other day's run is chosen, too


def test_an_instant_of_a_day_reads_the_runs_that_may_be_as_of_it(
    busy: Bucketful, asked: list[str], tmp_path: Path
) -> None:
    fresh = busy.settings.model_copy(update={"cache_dir": tmp_path / "fresh"})
    instant = DAY + EVERY * (RUNS - 2) + timedelta(microseconds=1)
    asked.clear()
    for manifests_read in (4, 1):  # of this one, that behind it and `later`, whose id does not say when; then as it is
        with open_run(as_of=instant, settings=fresh) as run:
            assert run.as_of == instant
        assert read_of(asked) == manifests_read
    later = instant + timedelta(microseconds=1)
    waited = Another(later, later, f"{instant - timedelta(hours=3):%Y%m%dT%H%M%SZ}-waited")  # ETL_WAIT_FOR_LEASE
    add(busy, waited)
    with open_run(as_of=later, settings=fresh) as run:
        assert run.run_id == waited.run_id


def test_a_day_without_its_night_is_read_once(busy: Bucketful, asked: list[str]) -> None:
    with Bucket(busy.settings) as bucket:
        bucket.remove([busy.later.path])
    asked.clear()
    last = f"{DAY + EVERY * (RUNS - 1):%Y%m%dT%H%M%SZ}-{RUNS - 1:08x}"
    for manifests_read in (RUNS + 3, 3):  # also that of `later`, which is not there, by both steps
        with open_run(as_of="2026-01-31", settings=busy.settings) as run:
            assert run.run_id == last
        assert read_of(asked) == manifests_read
    with open_run(as_of=DAY + timedelta(microseconds=1), settings=busy.settings) as run:
        assert run.as_of == DAY + timedelta(microseconds=1)
    asked.clear()
    with pytest.raises(ReadError, match=r"The runs of 2026-01-31 are as of 2026-01-31T16:30:00.000001.* and 7 more"):
        open_run(as_of=DAY + timedelta(microseconds=2), settings=busy.settings).__enter__()
    listings = sum("/object/list/" in request for request in asked)
    assert listings == 3, "both folders of the day once, to the empty page"


def test_a_list_reads_what_it_shows_and_each_once(
    busy: Bucketful, asked: list[str], sign_in: SignIn, tmp_path: Path
) -> None:
    everything = list_runs(settings=busy.settings)
    assert len(everything) == RUNS + 2
    assert read_of(asked) == RUNS + 2
    again = list_runs(settings=busy.settings)
    assert again.equals(everything)
    assert read_of(asked) == 0
    fresh = busy.settings.model_copy(update={"cache_dir": tmp_path / "fresh"})
    token = sign_in({"etl_role": "analyst"})
    for manifests_read in (5, 0):
        assert list_runs(limit=5, access_token=token, settings=fresh).equals(everything.head(5))
        assert read_of(asked) == manifests_read


def test_what_retention_did_since_is_seen(busy: Bucketful, asked: list[str]) -> None:
    settings = busy.settings
    assert not list_runs(settings=settings)["pruned"].any()
    read_history("author_activity", settings=settings)
    retain(settings, {}, now=SNAPSHOT_AT + timedelta(days=2), keep_days=1)  # the last of January, and what readers get
    asked.clear()
    runs = list_runs(settings=settings)
    assert runs["pruned"].tolist() == [False, True]
    assert runs["run_id"].tolist() == ["later", f"{DAY + EVERY * (RUNS - 1):%Y%m%dT%H%M%SZ}-0000000b"]
    assert read_of(asked) == 1  # the one that changed
    assert list_runs(settings=settings).equals(runs)
    assert read_of(asked) == 0
    assert list(read_history("author_activity", settings=settings).attrs["runs"].values()) == ["later"]
    with Bucket(settings) as bucket:
        bucket.remove([busy.later.path])
    asked.clear()
    assert list_runs(settings=settings)["run_id"].tolist() == runs["run_id"].tolist()[1:]
    with pytest.raises(ReadError, match="No run of the last 30 days with runs has the report author_activity"):
        read_history("author_activity", settings=settings)
    assert len(read_history("data_quality", settings=settings).attrs["runs"]) == 1


def test_the_default_says_when_it_leaves_some_out(busy: Bucketful, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.read.listing.LIMIT", 3)
    with Bucket(busy.settings) as bucket:  # of a run that is being published; its manifest comes last
        bucket.store(f"runs/2026-02-01/{AS_OF:%Y%m%dT%H%M%SZ}-unfinished/reports/data_quality.parquet", b"PAR1")
    assert list_runs(limit=1, days=2, settings=busy.settings)["run_id"].tolist() == ["later"]
    with pytest.warns(UserWarning, match="the newest 3 runs of the last 60 days with runs; limit=None lists all"):
        assert len(list_runs(limit=3, settings=busy.settings)) == 3
    assert len(list_runs(limit=4, settings=busy.settings)) == 4
    assert len(list_runs(limit=None, settings=busy.settings)) == RUNS + 2


def test_the_run_before_is_found_by_a_few(busy: Bucketful, asked: list[str]) -> None:
    ids = [f"{DAY + EVERY * number:%Y%m%dT%H%M%SZ}-{number:08x}" for number in range(RUNS)]
    assert run_before(settings=busy.settings).endswith(ids[-1])
    assert read_of(asked) <= 10
    assert run_before(ids[9], settings=busy.settings).endswith(ids[8])
    assert read_of(asked) <= 4


def test_a_run_that_waited_and_a_backfill_are_in_order(changeable: Bucketful) -> None:
    day, of_backfill = DAY - timedelta(days=2), SNAPSHOT_AT + timedelta(days=1)
    others = [Another.now(day + timedelta(hours=10, minutes=minute), minute) for minute in range(1, 11)]
    waited = Another(
        at := day + timedelta(hours=10, minutes=50), at, f"{day + timedelta(hours=10):%Y%m%dT%H%M%SZ}-waited"
    )
    last = Another.now(day + timedelta(hours=11), 11)
    backfill = Another(day + timedelta(days=1), of_backfill, f"{of_backfill:%Y%m%dT%H%M%SZ}-backfill", historical=True)
    add(changeable, *others, waited, last, backfill)
    assert run_before(last.run_id, settings=changeable.settings).endswith(waited.run_id)
    assert run_before(backfill.run_id, settings=changeable.settings).endswith(last.run_id)
    with open_run(as_of="2026-01-29", settings=changeable.settings) as run:
        assert run.run_id == last.run_id


def test_a_run_is_found_by_its_id_in_any_day(changeable: Bucketful, asked: list[str]) -> None:
    """A backfill of long ago was asked for in the folder of each day before, one after the other."""
    days = [Another.now(DAY - timedelta(days=number, hours=2), number) for number in range(1, 5)]
    backfill = Another(
        AS_OF - timedelta(days=9), SNAPSHOT_AT, f"{SNAPSHOT_AT:%Y%m%dT%H%M%SZ}-backfill", historical=True
    )
    add(changeable, *days, backfill, files=())
    for run_id, signs in ((backfill.run_id, 1), (days[2].run_id, 0)):
        asked.clear()
        with open_run(run=run_id, settings=changeable.settings) as run:
            assert run.run_id == run_id
        assert sum("/sign/" in request for request in asked) == signs
        assert read_of(asked) <= 2
    with pytest.raises(ReadError, match="There is no run '20260101T000000Z-0'"):
        open_run(run="20260101T000000Z-0", settings=changeable.settings).__enter__()
    assert read_of(asked) == 1


def random_runs(seed: int) -> list[Another]:
    """Runs of three days: as of midnight, now or an instant, historical or not; some ids do not say when."""
    rng, runs = random.Random(seed), list[Another]()
    for number in range(24):
        asked = DAY - timedelta(days=1) + timedelta(minutes=rng.randrange(3 * 1_440))
        started = asked + timedelta(minutes=rng.choice([0, 1, 50]), microseconds=number)
        midnight = datetime.combine(started.date(), datetime.min.time(), UTC)
        as_of = rng.choice(
            [started, midnight, midnight - timedelta(days=rng.randrange(3)), started - timedelta(hours=3)]
        )
        run_id = f"{asked:%Y%m%dT%H%M%SZ}-{number:08x}" if rng.random() < 0.9 else f"run-{number}"
        runs.append(Another(as_of, started, run_id, historical=as_of < midnight or rng.random() < 0.2))
    return runs


def test_each_answer_is_that_of_all_manifests(changeable: Bucketful, tmp_path: Path) -> None:
    """Also the first answer of a machine, and one after others."""
    there = add(changeable, *random_runs(1))
    settings = changeable.settings
    for day in sorted({run.day for run in there}):
        best = max((run for run in there if run.day == day), key=lambda run: run.rank)
        fresh = settings.model_copy(update={"cache_dir": tmp_path / day})
        for by in (fresh, settings):
            with open_run(as_of=day, settings=by) as run:
                assert run.run_id == best.run_id
    for newer in random.Random(1).sample(there, 8):
        before = [run for run in there if not run.historical]
        if newer.historical:
            earlier = max((r for r in before if r.order < newer.order), key=lambda run: run.order, default=None)
        else:
            earlier = max(
                (r for r in before if r.started_at < newer.started_at), key=lambda r: r.started_at, default=None
            )
        if earlier:
            assert run_before(newer.run, settings=settings) == earlier.run
    listed = list_runs(settings=settings)
    assert listed["run_id"].tolist() == [run.run_id for run in sorted(there, key=lambda run: run.order, reverse=True)]
