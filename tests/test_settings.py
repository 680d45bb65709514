"""Settings: the environment wins, wrong values are told by name, secrets are never shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.errors import ConfigurationError
from tasks.settings import Settings, load_settings

PROJECT = {"SUPABASE_URL": "https://demo.supabase.co", "SUPABASE_SERVICE_KEY": "sb_secret_hush"}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in PROJECT.items():
        monkeypatch.setenv(name, value)


def test_the_environment_wins_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("ETL_RANGES=2\nETL_WRITERS=3\n")
    monkeypatch.setenv("ETL_RANGES", "7")
    settings = load_settings()
    assert (settings.ranges, settings.writers) == (7, 3)


def test_auto_takes_postgres_when_its_url_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings().resolved_transport == "rest"
    monkeypatch.setenv("SUPABASE_DB_URL", "postgresql://postgres:hush@127.0.0.1:5432/postgres")
    assert load_settings().resolved_transport == "postgres"
    assert load_settings(transport="rest").resolved_transport == "rest"


def test_no_secret_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUPABASE_DB_URL", "postgresql://postgres:hush@127.0.0.1:5432/postgres")
    monkeypatch.setenv("ETL_ALERT_SLACK_WEBHOOK", "https://hooks.example/hush")
    assert "hush" not in repr(load_settings())
    assert "hush" not in load_settings().model_dump_json()


def test_a_wrong_value_is_told_by_its_variable_and_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ETL_RANGES", "hush")
    with pytest.raises(ConfigurationError, match="ETL_RANGES") as told:
        load_settings()
    assert "hush" not in str(told.value)


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SUPABASE_SERVICE_KEY")
    with pytest.raises(ConfigurationError, match="SUPABASE_SERVICE_KEY not set"):
        load_settings()
    with pytest.raises(ConfigurationError, match="SUPABASE_DB_URL"):
        load_settings(transport="postgres", supabase_service_key="sb_secret_hush")


def test_the_example_names_every_setting_that_an_operator_sets() -> None:
    example = (Path(__file__).parents[1] / ".env.example").read_text()
    known = {f"ETL_{name.upper()}" for name in Settings.model_fields} | {
        name.upper() for name in Settings.model_fields if name.startswith("supabase")
    }
    named = {
        line.lstrip("# ").split("=")[0]
        for line in example.splitlines()
        if "=" in line and " " not in line.lstrip("# ").split("=")[0]
    }
    assert named <= known
    assert {"SUPABASE_URL", "SUPABASE_SERVICE_KEY", "SUPABASE_DB_URL", "ETL_CRON"} <= named
