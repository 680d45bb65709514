"""Units in tasks: neighbouring ones in one task, and a task that was cut off runs again as if nothing had happened."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.cleaning.passes import clean_further, clean_posts, clean_users
from tasks.contracts import FURTHER_TABLES, POSTS, USERS
from tasks.errors import ConfigurationError, ServiceUnavailable
from tasks.files.manifest import entry_of
from tasks.files.run_files import write_tables
from tasks.platform.dask import _expected
from tasks.platform.dask_worker import Expected, run_units
from tasks.platform.workers import HERE, Result, Tick, Unit, Workers, no_tick, runs_of
from tasks.publish.upload import UploadUnit, upload_unit
from tasks.settings import Settings
from tasks.workspace import Workspace
from tests.cleaning.spools import AS_OF, SNAPSHOT_AT, fill_raw, post, small_pieces, user

ROOT = Path(__file__).parents[2]
DAY = timedelta(days=1)
USERS_ROWS = [user(n, email=f"user{n % 20}@example.com", created_at=AS_OF - DAY * (400 - n)) for n in range(40)]
POSTS_ROWS = [post(n, n % 43, created_at=datetime(2025, 1, 1, tzinfo=UTC) + DAY * n) for n in range(300)]


@given(units=st.integers(0, 400), workers=st.integers(1, 9), together=st.integers(1, 9))
def test_runs_are_all_units_in_their_order_and_the_last_ones_are_short(units: int, workers: int, together: int) -> None:
    runs = list(runs_of(range(units), workers=workers, together=together))
    assert list(chain.from_iterable(runs)) == list(range(units))
    sizes = [len(run) for run in runs]
    assert sizes == sorted(sizes, reverse=True)
    assert all(1 <= size <= together for size in sizes)
    assert set(sizes[-workers:]) <= {1}
    assert set(sizes) <= {1} or units > 4 * workers, "every worker has several tasks before one has several units"


class CutOff:
    """Runs each task twice: until a worker dies after its first unit, then whole."""

    count = 2

    def __init__(self, expected: Expected) -> None:
        self._expected = expected
        self.most = 0

    def map(
        self, work: Callable[[Unit, Tick], Result], units: Sequence[Unit], *, tick: Tick = no_tick, together: int = 1
    ) -> Iterator[Result]:
        for run in runs_of(units, workers=1, together=together):
            self.most = max(self.most, len(run))
            run_units(work, run[:1], self._expected)
            for done in run_units(work, run, self._expected):
                assert done.error is None
                tick(done.rows)
                yield done.result

    def peak_mib(self) -> float:
        return 0.0


def night(workspace: Workspace, settings: Settings, workers: Workers) -> tuple[object, dict[str, str]]:
    """Counts and entries of a small night, and the checksum of each file that it wrote."""
    fill_raw(workspace, USERS, USERS_ROWS, cuts=range(2, 40, 2))
    fill_raw(workspace, POSTS, POSTS_ROWS, cuts=range(5, 300, 5))
    with small_pieces(fan_in=4, span=10):
        users = clean_users(workspace, snapshot_at=SNAPSHOT_AT, workers=workers)
        posts = clean_posts(workspace, snapshot_at=SNAPSHOT_AT, as_of=AS_OF, workers=workers)
        for table in FURTHER_TABLES:
            fill_raw(workspace, table, ())
            clean_further(workspace, table, snapshot_at=SNAPSHOT_AT, workers=workers)
        entries = write_tables(workspace, settings, workers=workers)
    written = (path for folder in ("clean", "rejects", "files") for path in (workspace.root / folder).rglob("*.*"))
    sums = {str(p.relative_to(workspace.root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in written}
    return (users, posts, entries), sums


def test_a_task_that_was_cut_off_and_runs_again_writes_the_same(tmp_path: Path, settings: Settings) -> None:
    alone = night(Workspace.create(tmp_path, "alone"), settings, HERE)
    workspace = Workspace.create(tmp_path, "cut-off")
    workers = CutOff(_expected(settings, workspace))
    assert night(workspace, settings, workers) == alone
    assert workers.most == 8, "tasks had several units"
    assert len(alone[1]) > 60
    assert not list((workspace.root / "months").rglob("*.*")), "what was split by month is gone"


def test_a_worker_stores_on_any_transport(tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run whose form said `rest`, where ETL_TRANSPORT is `postgres`, ended there: SUPABASE_DB_URL was not set."""
    monkeypatch.setenv("ETL_TRANSPORT", "postgres")
    monkeypatch.setenv("ETL_RETRIES", "0")
    workspace = Workspace.create(tmp_path, "run")
    workspace.files.mkdir()
    (file := workspace.files / "a.parquet").write_bytes(b"PAR1")
    entry = entry_of(file, workspace.files, rows=1, version=1, kind="report")
    with pytest.raises(ServiceUnavailable, match="Upload of runs/a"):
        run_units(upload_unit, [UploadUnit(workspace, "runs", entry, None)], _expected(settings, workspace))


@pytest.mark.parametrize(
    ("expects", "said", "remedy"),
    [
        # Its own workers load the code of the disk.
        ({"code": "of a later version"}, "runs another version of this repository", "start the watch again"),
        ({"libraries": ("pyarrow 1.0",)}, "has .*pyarrow [2-9].*; this run has other versions", "requirements.txt"),
        (
            {"token": "of another run"},
            "has another folder at /",
            "ETL_DATA_DIR must be a folder that all workers share",
        ),
    ],
)
def test_a_worker_that_would_write_other_bytes_or_elsewhere_does_nothing(
    expects: dict[str, Any], said: str, remedy: str, tmp_path: Path, settings: Settings
) -> None:
    expected = _expected(settings, Workspace.create(tmp_path, "run"))
    with pytest.raises(ConfigurationError, match=said) as raised:
        run_units(lambda unit, tick: pytest.fail("it worked"), [1], replace(expected, **expects))
    assert remedy in raised.value.remedy


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("SUPABASE_URL", "http://127.0.0.1:8", "another SUPABASE_URL than this run: 127.0.0.1:8, and not 127.0.0.1:9"),
        ("ETL_BUCKET", "analytics", "has another ETL_BUCKET than this run: analytics, and not reports"),
        ("ETL_DB_ROLE", "", "has another ETL_DB_ROLE than this run: none, and not etl"),
        ("ETL_ACCESS_TOKEN", "a.b.c", "has another kind of key than this run: access token, and not service key"),
    ],
)
def test_a_worker_that_would_see_other_rows_or_store_elsewhere_does_nothing(
    name: str, value: str, said: str, tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = _expected(settings, Workspace.create(tmp_path, "run"))
    monkeypatch.setenv("SUPABASE_KEY", "publishable")
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match=said):
        run_units(lambda unit, tick: pytest.fail("it worked"), [1], expected)


@pytest.mark.slow
def test_a_process_goes_by_the_code_that_it_has_loaded_whatever_is_on_the_disk_by_now(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "tasks", tmp_path / "tasks", ignore=shutil.ignore_patterns("__pycache__"))
    rules = tmp_path / "tasks" / "cleaning" / "rules" / "users.py"
    load = "from tasks.incremental.mode import output_fingerprint; from tasks.settings import Settings; "
    say = "print(output_fingerprint(Settings(_env_file=None)))"
    before, running, after = (
        subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True, capture_output=True, text=True).stdout
        for script in (load + say, f"{load} open({str(rules)!r}, 'a').write('# changed'); {say}", load + say)
    )
    assert running == before != after


def test_a_task_ends_with_the_unit_that_failed(tmp_path: Path, settings: Settings) -> None:
    workspace = Workspace.create(tmp_path, "run")

    def work(unit: int, tick: Tick) -> int:
        if unit == 2:
            raise OSError(28, "No space left on device")
        tick(10)
        return unit

    finished = run_units(work, [0, 1, 2, 3], _expected(settings, workspace))
    assert [(done.result, done.rows, done.error is None) for done in finished] == [
        (0, 10, True),
        (1, 10, True),
        (None, 0, False),
    ]
