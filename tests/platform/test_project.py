"""A wrong address or key is named by its variable in the first second, before anything is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.engine.outcome import RunRequest
from flows.engine.pipeline import run_pipeline
from local_stack import Stack
from tasks.errors import ConfigurationError, PipelineError
from tests.source.kit import settings_for

SECRET = "sb_secret_of_another_project"


@pytest.fixture(params=[False, True], ids=["run", "dry"])
def request_of(request: pytest.FixtureRequest) -> RunRequest:
    return RunRequest(dry_run=request.param)


def run(stack: Stack, monkeypatch: pytest.MonkeyPatch, folder: Path, request: RunRequest, **env: str) -> PipelineError:
    """How a run with the default retries ends when these variables are set."""
    settings = {**stack.env(), "ETL_DATA_DIR": str(folder), **env}
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(PipelineError) as caught:
        run_pipeline(request)
    assert not list(folder.glob("runs/*/raw"))
    return caught.value


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SUPABASE_URL", "https://no-such-project.invalid"),
        ("SUPABASE_DB_URL", "postgresql://postgres:secret-word@no-such-host.invalid:5432/postgres"),
    ],
)
def test_a_host_that_does_not_exist_ends_it_at_once(
    clean_stack: Stack, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, request_of: RunRequest, name: str, value: str
) -> None:
    error = run(clean_stack, monkeypatch, tmp_path, request_of, **{name: value})
    assert isinstance(error, ConfigurationError)
    assert name in error.message
    assert ".invalid" in error.message
    assert "paused" in error.remedy
    assert "secret-word" not in str(error)


@pytest.mark.parametrize(
    ("name", "value", "where"),
    [
        ("SUPABASE_URL", "http://127.0.0.1:9", "127.0.0.1:9"),
        ("SUPABASE_DB_URL", "postgresql://postgres:secret-word@127.0.0.1:9/postgres", "127.0.0.1:9"),
        ("SUPABASE_DB_URL", "postgresql://postgres:secret/word@127.0.0.1:9/postgres", "is no address"),
    ],
)
def test_where_nothing_answers_is_named_with_its_setting(
    clean_stack: Stack, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, value: str, where: str
) -> None:
    env = {name: value, "ETL_RETRIES": "0", "ETL_RUN_RETRIES": "0"}
    error = run(clean_stack, monkeypatch, tmp_path, RunRequest(), **env)
    assert where in error.message
    assert name in str(error)
    assert "word@" not in str(error)
    assert "secret" not in error.message


@pytest.mark.parametrize("transport", ["rest", "postgres"])
def test_a_wrong_key_ends_it_before_anything_is_read(
    clean_stack: Stack, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, request_of: RunRequest, transport: str
) -> None:
    env = {"SUPABASE_SERVICE_KEY": SECRET, "ETL_TRANSPORT": transport}
    error = run(clean_stack, monkeypatch, tmp_path, request_of, **env)
    assert "SUPABASE_SERVICE_KEY" in str(error)
    assert SECRET not in str(error)
    assert clean_stack.query("select count(*) from etl_runs where status = 'committed'") == "0"


def test_a_database_url_stays_as_it_is_written(stack: Stack, tmp_path: Path) -> None:
    """A space is %20 to libpq, and a plus sign is itself."""
    from tasks.platform.postgres import connect, release

    url = f"{stack.db_url}?options=-c%20search_path%3Dpublic%20-c%20work_mem%3D7MB&application_name=one+two"
    connection = connect(settings_for(stack, "postgres", tmp_path, supabase_db_url=url))
    with connection.cursor() as cursor:
        cursor.execute("select current_setting('work_mem') || ' ' || current_setting('application_name')")
        assert cursor.fetchone() == ("7MB one+two",)
    release(connection)
