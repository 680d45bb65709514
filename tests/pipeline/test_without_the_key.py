"""Whole runs without the service key: a session that expires in any stage, a token, a login that is in etl alone."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from data.demo import DemoCounts
from flows.engine.outcome import RunRequest
from flows.engine.pipeline import run_pipeline
from tasks.errors import AccessError
from tasks.ledger.as_of import AsOf
from tests.pipeline.expiry import expiring
from tests.pipeline.identities import identity_env
from tests.pipeline.kit import AS_OF, Project

IDENTITIES = ("signed-in user",)
STAGES = {
    "the reading": ["GET /rest/v1/posts"],
    "the publishing": ["POST /storage/v1/object/reports/", "GET /storage/v1/object/info/reports/"],
    "the load": ["POST /rest/v1/rpc/etl_write"],
    "the commit": ["POST /rest/v1/rpc/etl_commit"],
}


def set_env(monkeypatch: pytest.MonkeyPatch, env: dict[str, str]) -> None:
    for name in ("SUPABASE_SERVICE_KEY", "ETL_EMAIL", "ETL_PASSWORD", "ETL_ACCESS_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("stage", STAGES)
def test_a_session_that_expires_in_the_middle_is_refreshed(
    project: Project, demo: DemoCounts, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    with expiring(project.stack.url, *STAGES[stage]) as gate:
        env = {**project.env("rest"), "SUPABASE_URL": gate.url, "ETL_PAGE_ROWS": "100", "ETL_WRITE_ROWS": "100"}
        set_env(monkeypatch, env)
        outcome = run_pipeline(RunRequest(as_of=AsOf.parse(AS_OF)))
        assert not gate.kinds, "no token expired in this stage"
        assert len(gate.tokens) > len(STAGES[stage]), "no other token was sent"
    assert outcome.status == "committed"
    assert outcome.tables["posts"]["inserted"] == demo.posts.kept
    assert "the user of ETL_EMAIL, role etl; no more than a run needs" in outcome.identity[0]
    project.assert_whole()
    ours = "select count(*) from auth.sessions s join auth.users u on u.id = s.user_id where u.email = :'email'"
    left = project.stack.query(ours, {"email": project.identity["ETL_EMAIL"]})
    assert left == "1", "the session of the sign-up alone: that of the run is signed out"


def test_a_run_by_a_token_of_the_owner(project: Project, demo: DemoCounts, monkeypatch: pytest.MonkeyPatch) -> None:
    base = {k: v for k, v in project.env("rest").items() if k not in project.identity}
    set_env(monkeypatch, {**base, **identity_env(project.stack, "access token")})
    outcome = run_pipeline(RunRequest(as_of=AsOf.parse(AS_OF)))
    assert outcome.tables["users"]["inserted"] == demo.users.kept
    assert "ETL_ACCESS_TOKEN, role etl; no more than a run needs" in outcome.identity[0]


def test_a_token_that_expires_in_the_middle_ends_the_run_with_what_to_do(
    project: Project, demo: DemoCounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = {k: v for k, v in project.env("rest").items() if k not in project.identity}
    with expiring(project.stack.url, *STAGES["the reading"]) as gate:
        env = {**base, **identity_env(project.stack, "access token"), "SUPABASE_URL": gate.url}
        set_env(monkeypatch, env)
        with pytest.raises(AccessError) as raised:
            run_pipeline(RunRequest(as_of=AsOf.parse(AS_OF)))
    assert env["ETL_ACCESS_TOKEN"] not in str(raised.value)


@pytest.fixture
def login(project: Project) -> Iterator[str]:
    """SUPABASE_DB_URL of a login that is a member of etl and of nothing else; as docs/keys.md says."""
    password = secrets.token_hex(12)
    project.stack.query(f"create role etl_login login password '{password}' in role etl")
    host = urlsplit(project.stack.db_url).netloc.rpartition("@")[2]
    yield f"postgresql://etl_login:{password}@{host}/postgres"
    project.stack.query("drop role etl_login")


def test_a_night_over_postgres_by_a_login_that_is_a_member_of_etl_alone(
    project: Project, demo: DemoCounts, login: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_env(monkeypatch, {**project.env("postgres"), "SUPABASE_DB_URL": login})
    outcome = run_pipeline(RunRequest(as_of=AsOf.parse(AS_OF)))
    assert outcome.transport == "postgres"
    assert outcome.tables["posts"]["inserted"] == demo.posts.kept
    again = run_pipeline(RunRequest(as_of=AsOf.parse(AS_OF)))
    assert again.tables["posts"]["unchanged"] == demo.posts.kept
    assert outcome.identity[1] == (
        "Postgres: the login of SUPABASE_DB_URL as etl, role etl_login; no more than a run needs."
    )
    project.assert_whole()
