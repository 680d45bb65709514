"""The application in this process, on a real stack with two published runs and people of every role."""

from __future__ import annotations

import secrets
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
import uvicorn
from playwright.sync_api import Browser
from pydantic import SecretStr

from api import vendor
from api.app import create_app
from data.demo import load
from flows.engine.outcome import RunRequest
from flows.engine.pipeline import run_pipeline
from local_stack import Stack
from local_stack.state import free_port
from tasks.ledger.as_of import AsOf
from tasks.settings import Settings
from tests.api.watched import Watched, context, sign_in
from tests.browser.conftest import launched
from tests.conftest import temporary_stack


@dataclass(frozen=True)
class Person:
    """Somebody with a token, and the password it could be had for."""

    id: str
    email: str
    token: str
    password: str = ""

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}


def mint(stack: Stack, *, etl_role: str | None = None, expires_in: int = 600, **claims: Any) -> Person:
    """A person with a token as Auth signs it; `etl_role`: what an operator granted."""
    secret = claims.pop("secret", stack.jwt_secret)
    person, email = str(uuid.uuid4()), f"{secrets.token_hex(6)}@example.com"
    body = {
        "role": "authenticated",
        "aud": "authenticated",
        "sub": person,
        "email": email,
        "exp": int(time.time()) + expires_in,
        "app_metadata": {"provider": "email", **({"etl_role": etl_role} if etl_role else {})},
        **claims,
    }
    return Person(person, email, jwt.encode(body, secret, "HS256"))


@dataclass(frozen=True)
class Site:
    """The application, its project, and people to ask it as."""

    http: httpx.Client
    stack: Stack
    settings: Settings
    people: dict[str, Person]
    runs: tuple[str, str]

    def get(self, path: str, who: str | None = "analyst", **more: Any) -> Any:
        """A GET as somebody; None: nobody is signed in."""
        headers = {**(self.people[who].headers if who else {}), **more.pop("headers", {})}
        return self.http.get(path, headers=headers, **more)


def make_account(stack: Stack, role: str | None) -> Person:
    """A person who really signed up, with a role that an operator granted, and signed in again."""
    email, password = f"{secrets.token_hex(6)}@example.com", secrets.token_hex(12)
    auth = f"{stack.url}/auth/v1"
    body = {"email": email, "password": password}
    httpx.post(f"{auth}/signup", headers={"apikey": stack.key}, json=body).raise_for_status()
    if role:
        grant = "update auth.users set raw_app_meta_data = raw_app_meta_data || jsonb_build_object('etl_role', :'role')"
        stack.query(f"{grant} where email = :'email'", {"role": role, "email": email})
    answer = httpx.post(
        f"{auth}/token", params={"grant_type": "password"}, headers={"apikey": stack.key}, json=body
    ).raise_for_status()
    session = answer.json()
    return Person(session["user"]["id"], email, session["access_token"], password)


def people_of(stack: Stack) -> dict[str, Person]:
    """One of each kind of caller."""
    return {
        **{role: make_account(stack, role) for role in ("analyst", "operator")},
        "other analyst": make_account(stack, "analyst"),
        "customer": make_account(stack, None),
        "expired": mint(stack, etl_role="operator", expires_in=-3_600),
        "stranger": mint(stack, etl_role="operator", secret="another project's secret, long enough for it"),
        "foreign": mint(stack, etl_role="operator", iss="https://another.supabase.co/auth/v1"),
        "service": mint(stack, etl_role="operator", role="service_role"),
    }


def run_nightlies(stack: Stack, folder: Path) -> tuple[str, str]:
    """Two nights on demo data, the second one a day later; returns their ids."""
    load(stack.db_url, users=300, posts=3_000, days=365)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**stack.env(), "ETL_DATA_DIR": str(folder / "data")}.items():
            patch.setenv(name, value)
        yesterday = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=1)
        first = run_pipeline(RunRequest(as_of=AsOf.instant(yesterday)))
        second = run_pipeline(RunRequest(as_of=AsOf.parse("midnight")))
    return first.run_id, second.run_id


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The application on a project of its own with two nights behind it."""
    folder = tmp_path_factory.mktemp("site")
    vendor.install(lambda text: None)  # as `make api` does
    with temporary_stack() as stack:
        runs = run_nightlies(stack, folder)
        # All tests of a process sign in from one address, some of them as one person.
        settings = settings_for(stack, folder, api_sign_in_rate="100/minute")
        with serving(settings) as http:
            yield Site(http, stack, settings, people_of(stack), runs)


@contextmanager
def serving(settings: Settings) -> Iterator[httpx.Client]:
    """The application behind a real server on 127.0.0.1, and a client that knows its address."""
    config = uvicorn.Config(create_app(settings), port=free_port(), log_config=None, access_log=False)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive(), "the server did not start"
            time.sleep(0.02)
        with httpx.Client(base_url=f"http://127.0.0.1:{config.port}", timeout=30) as http:
            yield http
    finally:
        server.should_exit = True
        thread.join(10)


def settings_for(stack: Stack, folder: Path, **more: Any) -> Settings:
    """The settings of an application, with the service key in them: it must not be used."""
    return Settings(
        _env_file=None,
        supabase_url=stack.url,
        supabase_key=SecretStr(stack.key),
        supabase_service_key=SecretStr(stack.service_key),
        supabase_db_url=SecretStr(stack.db_url),
        supabase_jwt_secret=SecretStr(stack.jwt_secret),
        cache_dir=folder / "cache",
        **more,
    )


FORM = {"accept": "text/html"}


def origin(site: Site) -> dict[str, str]:
    """The headers of a form of the site's own."""
    return {"origin": str(site.http.base_url).rstrip("/"), **FORM}


def sign_in_by_form(site: Site, client: httpx.Client, person: Person, **more: str) -> httpx.Response:
    body = {"email": person.email, "password": person.password, **more}
    return client.post("/auth/sign-in", data=body, headers=origin(site))


@pytest.fixture
def browser(site: Site) -> Iterator[httpx.Client]:
    """A client with a cookie jar, as a browser has one."""
    with httpx.Client(base_url=site.http.base_url, timeout=30) as client:
        yield client


@pytest.fixture(scope="module")
def chromium(site: Site) -> Iterator[Browser]:
    vendor.install(print)
    with launched() as browser:
        yield browser


@pytest.fixture
def tab(chromium: Browser, site: Site) -> Iterator[Watched]:
    """A tab in which an analyst is signed in; afterwards nothing may have gone wrong in it."""
    with context(chromium, site) as opened:
        watched = Watched(opened.new_page())
        sign_in(watched.page, site.people["analyst"])
        yield watched
        watched.clean()
