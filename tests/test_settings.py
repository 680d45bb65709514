"""Settings: the environment wins, wrong values are reported by name, secrets are never shown."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from flows.nightly import main as nightly_command
from scripts import migrations
from tasks.errors import ConfigurationError, SettingsError
from tasks.settings import Settings, load_settings
from tasks.settings.load import variable

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


def test_a_wrong_value_is_reported_by_its_variable_and_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ETL_RANGES", "hush")
    with pytest.raises(ConfigurationError, match="ETL_RANGES") as raised:
        load_settings()
    assert "hush" not in str(raised.value)


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SUPABASE_SERVICE_KEY")
    with pytest.raises(ConfigurationError, match="SUPABASE_SERVICE_KEY not set"):
        load_settings()
    with pytest.raises(ConfigurationError, match="SUPABASE_DB_URL"):
        load_settings(transport="postgres", supabase_service_key="sb_secret_hush")


def test_the_example_names_every_setting_and_nothing_else() -> None:
    example = (Path(__file__).parents[1] / ".env.example").read_text()
    named = re.findall("^# ([A-Z_]+)=", example, re.MULTILINE)
    assert len(named) == len(set(named))
    assert set(named) == {variable((name,)) for name in Settings.model_fields} | {"ETL_PROJECT_DIR"}


def test_each_default_of_the_example_is_the_default_also_as_docker_and_systemd_read_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    defaults = load_settings()
    example = (Path(__file__).parents[1] / ".env.example").read_text()
    pairs = re.findall(r"^# ((?:ETL|PREFECT)_[A-Z_]+)=(.*)$", example, re.MULTILINE)
    assert len(pairs) > 40
    for name, value in pairs:  # all that follows the =, a comment too
        monkeypatch.setenv(name, value)
    assert load_settings() == defaults


# Every setting of .env.example, set to what cannot be right. What only the project or the machine can decide is below.
WRONG = {
    "ETL_MAX_CHANGED_SHARE": "1.5",
    "ETL_FULL_REFRESH_DAYS": "-1",
    "ETL_KEEP_BASE": "maybe",
    "ETL_ALERT_SMTP_PORT": "70000",
    "ETL_ALERT_SMTP_SECURITY": "perhaps",
    "SUPABASE_URL": "demo.supabase.co",
    "SUPABASE_SERVICE_KEY": "",
    "SUPABASE_DB_URL": "https://demo.supabase.co",
    "ETL_TRANSPORT": "http",
    "ETL_BUCKET": "a bucket/with a slash",
    "ETL_RANGES": "0",
    "ETL_PAGE_ROWS": "many",
    "ETL_WORKERS": "-1",
    "ETL_DASK_ADDRESS": "10.0.0.5",
    "ETL_SHARED_DIR": "sftp://etl:secret@files.example.org/runs",
    "ETL_WRITERS": "99",
    "ETL_LEASE_SECONDS": "1",
    "ETL_WAIT_FOR_LEASE": "-1",
    "ETL_CLOCK_SCALE": "-9.5",
    "ETL_MAX_REFUSED_SHARE": "2",
    "ETL_MAX_DROP_SHARE": "20%",
    "ETL_MAX_DELETE_SHARE": "-0.1",
    "ETL_MAX_RULE_POINTS": "101",
    "ETL_DRIFT_FLOOR_ROWS": "-1",
    "ETL_KEEP_DAYS": "0",
    "ETL_SIGNED_LINK_SECONDS": "604801",
    "ETL_PART_ROWS": "0",
    "ETL_EMAIL": "someone",
    "ETL_WATCH_CHANGES": "0",
    "ETL_WATCH_MINUTES": "-2",
    "ETL_WATCH_EVERY_MINUTES": "-1",
    "ETL_WATCH_POLL_SECONDS": "601",
    "ETL_WATCH_CLEAR_MINUTES": "-1",
    "ETL_WATCH_REALTIME": "on",
    "ETL_WATCH_SILENCE_MINUTES": "-2",
    "ETL_CRON": "every night",
    "ETL_TIMEZONE": "Berlin",
    "ETL_ALERT_SLACK_WEBHOOK": "hooks.slack.com/x",
    "ETL_ALERT_EMAIL": "someone",
    "ETL_ALERT_EMAIL_FROM": "some one@example.com",
    "ETL_STATEMENT_TIMEOUT": "ten minutes",
    **{f"ETL_{name}_TIMEOUT": "-10" for name in ("CONNECT", "READ", "COUNT")},
    **{f"ETL_{name}": "-12" for name in ("RETRIES", "RETRY_SECONDS", "RUN_RETRIES", "RUN_RETRY_SECONDS")},
    **{f"ETL_{name}": "2" for name in ("BATCH_BYTES", "WRITE_BYTES")},
    **{f"ETL_{name}": "1000001" for name in ("BATCH_ROWS", "WRITE_ROWS", "ROW_GROUP_ROWS")},
    "ETL_RETRY_BASE": "half",
    "ETL_RESUME_WITHIN": "-3",
}
# Any text may be right: a wrong one is reported by what uses it, with the variable's name.
ANY_TEXT = {
    "ETL_ALERT_SMTP_HOST", "ETL_ALERT_SMTP_USER", "ETL_ALERT_SMTP_PASSWORD",
    "SUPABASE_KEY", "ETL_DB_ROLE", "ETL_DATA_DIR", "ETL_CACHE_DIR", "ETL_ALERT_SENDGRID_KEY", "ETL_TRUSTED_FUNCTIONS",
    "SUPABASE_JWT_SECRET", "ETL_PASSWORD", "ETL_ACCESS_TOKEN", "ETL_WATCH_HEALTH", "ETL_PROJECT_DIR",
}  # fmt: skip


# So many days ago there is no date, and no timeout of PostgreSQL's or Python's is so long.
TOO_LARGE = [
    ("ETL_KEEP_DAYS", "36501"),
    ("ETL_FULL_REFRESH_DAYS", "1000000000"),
    ("ETL_LEASE_SECONDS", "3000000"),
    ("ETL_STATEMENT_TIMEOUT", "3000000"),
    ("ETL_WAIT_FOR_LEASE", "3000000"),
    ("ETL_RESUME_WITHIN", "3000000000"),
    *((f"ETL_{name.upper()}", "inf") for name, field in Settings.model_fields.items() if field.annotation is float),
]


# There is no such hour, and no such day, which a watch met at the first change; and no such account.
NEVER = [("ETL_DATA_DIR", "~nobody-x/data"), *(("ETL_CRON", at) for at in ("0 24 * * *", "0 3 30 2 *", "R 3 * * *"))]


@pytest.mark.parametrize(("name", "value"), [*WRONG.items(), *TOO_LARGE, *NEVER])
def test_a_wrong_value_of_each_setting_is_reported_by_its_name(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match=name) as raised:
        load_settings()
    assert raised.value.remedy
    assert not value or value not in raised.value.message


def test_no_setting_of_the_example_is_left_out() -> None:
    example = (Path(__file__).parents[1] / ".env.example").read_text()
    named = {line[2:].split("=")[0] for line in example.splitlines() if line[2:].split("=")[0].isupper()}
    assert {name for name in named if name.startswith(("ETL_", "SUPABASE_"))} <= WRONG.keys() | ANY_TEXT | API


# Of `api/`, whose tests set them; `tests/api` has what each does.
API = {f"ETL_{name.upper()}" for name in Settings.model_fields if name.startswith("api_")}


def test_ends_of_a_value_that_docker_passes_on_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {
        "SUPABASE_URL": " https://demo.supabase.co\r",
        "SUPABASE_SERVICE_KEY": "sb_secret_hush \r",
        "SUPABASE_DB_URL": "postgresql://postgres:hush@127.0.0.1/postgres\r",
        "ETL_TRANSPORT": "rest\r",
        "ETL_RANGES": "3\r",
        "ETL_WAIT_FOR_LEASE": " ",
        "ETL_PASSWORD": " of two words \r",
        "HOME": "/home/ana",
        "ETL_DATA_DIR": "~/data\r",  # no shell reads a line of `.env`: rows went to a folder named ~ beside the code
        "ETL_WATCH_HEALTH": "health.json\r",
    }
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    assert (settings.supabase_url, settings.transport, settings.ranges) == ("https://demo.supabase.co", "rest", 3)
    assert settings.supabase_service_key.get_secret_value() == "sb_secret_hush"
    assert settings.supabase_db_url.get_secret_value() == "postgresql://postgres:hush@127.0.0.1/postgres"
    assert settings.password.get_secret_value() == " of two words "
    assert (str(settings.data_dir), str(settings.watch_health)) == ("/home/ana/data", "health.json")
    assert settings.wait_for_lease is None


def test_an_empty_value_is_one_that_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """As compose files and units pass on what nobody has set. An empty role means something: the login's."""
    for name in PROJECT:
        monkeypatch.delenv(name)
    unset = Settings()
    for name in Settings.model_fields:
        monkeypatch.setenv(variable((name,)), "")
    assert Settings() == unset.model_copy(update={"db_role": ""})


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("SUPABASE_SERVICE_KEY", "sb_secret_é", "holds a character that no key has"),
        ("SUPABASE_KEY", "sb_publishable two", "holds a character that no key has"),
        ("ETL_ACCESS_TOKEN", "ey\x07.a.b", "holds a character that no key has"),
        ("PREFECT_API_KEY", "pnu\u200b", "holds a character that no key has"),
        ("SUPABASE_URL", "http://127.0.0.1:99999", "must have a port up to 65535"),
        ("SUPABASE_URL", "http://127.0.0.1:80a", "must have a port up to 65535"),
        ("SUPABASE_URL", "https://demo .supabase.co", "must not hold a space"),
        ("SUPABASE_URL", "https://demo-all.supabase.co", "must not be the load balancer of the read replicas"),
        ("PREFECT_API_URL", "http://127.0.0.1:4200\t/api", "must not hold a space or an invisible character"),
    ],
)
def test_what_no_key_or_address_holds_is_a_matter_of_settings_and_2(
    name: str, value: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(name, value)
    assert nightly_command(["--dry-run"]) == 2
    printed = capsys.readouterr().err
    assert f"The settings are not usable: {name}: {said}" in printed
    assert value not in printed


@pytest.mark.parametrize("where", ["environment", "file"])
def test_a_name_that_is_no_setting_is_refused_with_the_nearest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    if where == "file":
        (tmp_path / ".env").write_text("ETL_PAGE_ROW=7\n")
    else:
        monkeypatch.setenv("ETL_PAGE_ROW", "7")
    with pytest.raises(ConfigurationError, match=r"ETL_PAGE_ROW \(do you mean ETL_PAGE_ROWS\?\)"):
        load_settings()


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("postgresql://postgres.ref:[YOUR-PASSWORD]@db.invalid:5432/postgres", "in place of [YOUR-PASSWORD]"),
        ("postgresql://postgres:hu[sh@db.invalid:5432/postgres", "%5B ([)"),
        ("postgresql://postgres:hu%sh@db.invalid:5432/postgres", "%25 (%)"),
        ("postgresql://postgres:hu sh@db.invalid:5432/postgres", "%20 (a space)"),
        ("postgresql://postgres:hu%00sh@db.invalid:5432/postgres", "is no address"),
        ("postgresql://postgres:hush@@db.invalid:x/postgres", "%40 (@)"),
        *((f"postgresql://postgres:{p}hu{c}sh@db.invalid/postgres", "%2F (/)") for p in ("", "p@") for c in "/?#"),
        ("https://db.invalid", "must start with postgresql://"),
    ],
)
def test_a_database_address_that_cannot_be_right_is_said_by_every_command(
    address: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SUPABASE_DB_URL", address)
    assert migrations.main([]) == 2
    with pytest.raises(SettingsError) as caught:
        load_settings()
    for words in (capsys.readouterr().err, str(caught.value)):
        assert "SUPABASE_DB_URL: " in words
        assert said in words
        assert "hu" not in words


@pytest.mark.parametrize(
    ("name", "address", "said"),
    [
        ("SUPABASE_URL", "https://admin:hush@demo.example.org", "must not hold a user or a password"),
        ("ETL_DASK_ADDRESS", "tcp://admin:hush@10.0.0.5:8786", "must be the address of a Dask scheduler"),
    ],
)
def test_an_address_with_a_password_is_refused(
    name: str, address: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stood in every signed link, on the pages of runs and in exports, or in the message of a run that failed."""
    monkeypatch.setenv(name, address)
    with pytest.raises(SettingsError, match=f"{name}: {said}") as caught:
        load_settings()
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    "address",
    [
        "postgres://postgres.ref:%40%3A%2F%23%25%5B%20@db.invalid:5432/postgres?sslmode=require&options=-c%20jit%3Doff",
        "postgresql://postgres@[::1]:5432/postgres",
        "postgresql:///postgres?host=/var/run/postgresql&",
    ],
)
def test_odd_addresses_that_libpq_takes_are_taken(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUPABASE_DB_URL", address)
    assert Settings().supabase_db_url.get_secret_value() == address
