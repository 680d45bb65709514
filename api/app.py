"""The application: its parts, made once a process, and its routes.

    uvicorn api.app:create_app --factory --no-access-log --proxy-headers --workers 4

It holds no state: sessions are in cookies, data is in the project, and what it keeps on disk is a cache.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import PackageNotFoundError, version
from urllib.parse import quote

import anyio.to_thread
from fastapi import FastAPI
from fastapi.routing import APIRoute
from pydantic import SecretStr
from starlette.middleware.cors import CORSMiddleware

from api import problems
from api.last_commit import LastCommit
from api.ledger import Ledger
from api.memo import Bodies, Memo
from api.middleware import Guarded
from api.openapi import Documented
from api.prefect import Prefect
from api.problems import ProblemBody
from api.routes import auth, files, health, reports, runs, users
from api.run_events import RunEvents
from api.session import Sessions
from api.site import pages
from api.site.context import STATIC, environment, problem_page
from api.static_files import Static
from api.store import Store
from api.throttle import Throttle
from api.tokens import Verifier
from api.upstream import Upstream
from tasks.errors import ConfigurationError
from tasks.settings import Settings, reader_settings

BODIES_BYTES = 64 * 2**20
THREADS = 40
READY_SECONDS = 2
# Somebody waits for each answer: one quick second try, no more.
IMPATIENT = {"retries": 1, "retry_seconds": 5.0, "read_timeout": 30.0, "connect_timeout": 5.0}


def create_app(settings: Settings | None = None) -> FastAPI:
    """The application for the project of the settings; for uvicorn, which gives none, for that of the environment.

    ConfigurationError when it cannot be made of them. To uvicorn that is a sentence, and the end of the process.
    """
    try:
        return _made(without_master_key(settings or reader_settings()))
    except ConfigurationError as error:
        if settings:
            raise
        raise SystemExit(f"error: {error}") from None


def _made(settings: Settings) -> FastAPI:
    app = Documented(
        title="supabase-nightly",
        description=DESCRIPTION,
        version=_version(),
        docs_url=None,  # its page loads from a CDN
        redoc_url=None,
        lifespan=_lifespan,
        generate_unique_id_function=_operation_id,
    )
    _hold(app, settings)
    problems.install(app)
    for area in (health, auth, reports, runs, users, files):
        app.include_router(area.router)
    app.include_router(pages.router)
    app.mount("/static", Static(directory=STATIC), name="static")
    _add_middleware(app, settings)
    _set_up_log()
    return app


DESCRIPTION = """\
Reports of the nightly pipeline, its runs, the cleaned rows and files, as the signed-in caller may see them.

Sign in with `POST /auth/sign-in` and send the token as `Authorization: Bearer …`. Lists come in pages: pass `next` as
`cursor`. Errors are `application/problem+json` with `detail`, `remedy` and the `request_id` that the server's log has.
"""


def without_master_key(settings: Settings) -> Settings:
    """The settings without what reaches past row-level security, and with the patience of an interactive server."""
    if not settings.supabase_url or not settings.supabase_key.get_secret_value():
        raise ConfigurationError(
            "SUPABASE_URL and SUPABASE_KEY (the public one) are not both set.",
            remedy="Set them in the environment or in .env; `make api` uses the local stack without them.",
        )
    none = SecretStr("")
    return settings.model_copy(update={"supabase_service_key": none, "supabase_db_url": none, **IMPATIENT})


def _hold(app: FastAPI, settings: Settings) -> None:
    """What the routes use, found as `request.app.state`."""
    state = app.state
    state.settings = settings
    state.upstream = Upstream(settings)
    state.sessions = Sessions(state.upstream, Verifier(settings, state.upstream))
    state.prefect = Prefect(settings)
    state.store = Store(settings, state.upstream)
    state.last_commit = LastCommit(state.store.folder / f"last-commit-{quote(settings.project, safe='')}")
    state.ledger = Ledger(state.upstream, state.prefect, state.last_commit, seconds=settings.api_remember_seconds)
    state.run_events = RunEvents(state.ledger)
    state.throttle = Throttle(settings)
    state.bodies = Bodies(limit=BODIES_BYTES)
    state.templates, state.problem_page = environment(), problem_page
    state.readiness = Memo(seconds=READY_SECONDS, size=1)


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
    yield
    app.state.upstream.close()
    app.state.prefect.close()


def _add_middleware(app: FastAPI, settings: Settings) -> None:
    origins = [origin.strip().rstrip("/") for origin in settings.api_origins.split(",") if origin.strip()]
    if origins:
        # Tokens only: a cookie of this site is never sent from another.
        app.add_middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["Authorization", "Content-Type", "If-None-Match", "Idempotency-Key", "X-Request-Id"],
            expose_headers=["ETag", "ETL-Run", "ETL-As-Of", "X-Request-Id", "Content-Disposition", "Retry-After"],
        )
    app.add_middleware(Guarded, upload_bytes=settings.api_upload_bytes)


def _set_up_log() -> None:
    """Our one line a request, and none of those of others, which hold addresses and queries."""
    log = logging.getLogger("api")
    log.setLevel(logging.INFO)
    if not log.handlers and not logging.getLogger().handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
        log.addHandler(handler)
    logging.getLogger("uvicorn.access").disabled = True
    logging.getLogger("httpx").setLevel(logging.WARNING)


def _operation_id(route: APIRoute) -> str:
    return route.name


def _version() -> str:
    try:
        return version("supabase-nightly")
    except PackageNotFoundError:
        return "0.1.0"


__all__ = ["ProblemBody", "create_app"]
