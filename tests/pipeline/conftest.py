"""A project with a small demo in it, and the environment of a process that runs the pipeline there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from pathlib import Path

import pytest

from data.demo import DemoCounts, load
from flows.engine.outcome import RunOutcome, RunRequest
from flows.engine.pipeline import run_pipeline
from local_stack import Stack
from tasks.ledger.as_of import AsOf
from tasks.settings import Transport
from tests.pipeline.identities import identity_env
from tests.pipeline.kit import AS_OF, UNTIL, Project
from tests.without_charts import SWITCH

Runner = Callable[..., RunOutcome]
DAYS = 130  # of the demo's time


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every test of a whole run once more as a user with the role etl: if marked `as_etl` in `make test-slow`, all
    others in `make soak`. A module that names its own IDENTITIES runs as those, a test that names them as it says."""
    own = getattr(metafunc.module, "IDENTITIES", None)
    if any("identity" in str(mark.args[0]) for mark in metafunc.definition.iter_markers("parametrize")):
        return
    if own and "identity" in metafunc.fixturenames:
        metafunc.parametrize("identity", own, indirect=True)
    elif "identity" in metafunc.fixturenames:
        marks = pytest.mark.slow if metafunc.definition.get_closest_marker("as_etl") else pytest.mark.soak
        metafunc.parametrize("identity", ["service key", pytest.param("signed-in user", marks=marks)], indirect=True)


def alternating(names: str, cases: Iterable[tuple[object, ...]]) -> pytest.MarkDecorator:
    """Each case as one of the two identities in turn: many cases find more than half as many that run twice."""
    kinds = ("service key", "signed-in user")
    values = [(kinds[number % 2], *case) for number, case in enumerate(cases)]
    return pytest.mark.parametrize(("identity", *names.split()), values, indirect=["identity"])


@pytest.fixture
def identity(request: pytest.FixtureRequest) -> str:
    """As whom the pipeline acts over REST, Storage and functions."""
    return str(request.param)


@pytest.fixture
def project(clean_stack: Stack, identity: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    monkeypatch.chdir(tmp_path)  # no .env
    monkeypatch.setenv(SWITCH, "1")  # half of a small run's work; `charts` switches it back
    project = Project(clean_stack, tmp_path, identity_env(clean_stack, identity))
    with project.bucket:
        yield project


@pytest.fixture
def charts(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of this process draw their charts, as all others do."""
    monkeypatch.delenv(SWITCH)


@pytest.fixture
def demo(project: Project) -> DemoCounts:
    """400 users and 1,200 posts, all dirt included. A month is three files to store in each night: a few will do."""
    return load(project.stack.db_url, users=400, posts=1_200, until=datetime.fromisoformat(UNTIL), days=DAYS)


@pytest.fixture
def run(project: Project, monkeypatch: pytest.MonkeyPatch) -> Runner:
    """Run the pipeline in this process, without a Prefect server: `run("rest", as_of=…, accept=…, ETL_…=…)`."""

    def runner(transport: Transport = "postgres", *, as_of: str = AS_OF, **more: object) -> RunOutcome:
        env = {name: str(value) for name, value in more.items() if name.startswith("ETL_")}
        for name, value in project.env(transport, **env).items():
            monkeypatch.setenv(name, value)
        options = {name: value for name, value in more.items() if not name.startswith("ETL_")}
        return run_pipeline(RunRequest(as_of=AsOf.parse(as_of), **options))  # type: ignore[arg-type]

    return runner
