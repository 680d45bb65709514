"""Every error that stays ends with what to do, whatever answered: the API, its gateway, the edge, a paused project."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from pydantic import SecretStr

from tasks.contracts import POSTS
from tasks.doctor import project
from tasks.doctor.findings import guarded
from tasks.errors import PipelineError
from tasks.platform.functions import RestDatabase
from tasks.settings import Settings
from tasks.source import open_source
from tasks.workspace import Spool
from tests.source.fake_postgrest import ROWS, FakePostgrest

PAGE = "<html><body><h1>Something of a gateway</h1></body></html>"
STATUSES = (400, 401, 402, 403, 404, 405, 408, 409, 413, 414, 422, 429, 500, 502, 503, 504, 507, 520, 521, 522, 524,
            525, 530, 540, 544)  # fmt: skip
CODES = {
    "57014": (500, "ETL_STATEMENT_TIMEOUT"), "40001": (500, "start the run again"), "42501": (403, "make doctor"),
    "PGRST301": (401, "SUPABASE_SERVICE_KEY"), "PGRST202": (404, "make migrate"), "PGRST205": (404, "tasks/contracts/"),
    "53300": (503, "ETL_RANGES"), "08006": (503, "status.supabase.com"), "25006": (500, "disk"),
    "DatabaseReadOnly": (503, "disk"),  # as Storage calls it
    "XX000": (500, "make doctor"), "42703": (400, "tasks/contracts/"), "PGRST106": (406, "exposed schemas"),
    "42P01": (404, "trigger of your own"), "42883": (404, "trigger of your own"), "55000": (500, "replica identity"),
    "55P03": (500, "lock_timeout"),
}  # fmt: skip
NAMES = {401: "SUPABASE_SERVICE_KEY", 402: "Billing", 404: "SUPABASE_URL", 413: "ETL_WRITE_BYTES", 429: "ETL_RANGES",
         507: "no room", 540: "Restore the project"}  # fmt: skip


def settings(folder: Path) -> Settings:
    return Settings(
        _env_file=None, supabase_url="http://project.invalid", supabase_service_key=SecretStr("sb_secret_x"), retries=0,
        retry_base=0.01, data_dir=folder, transport="rest",
    )  # fmt: skip


def page_of(status: int, html: bool) -> Callable[[httpx.Request], httpx.Response | None]:
    """The gateway's answer to every page of a read."""

    return trouble_of_pages(lambda: httpx.Response(status, html=PAGE) if html else httpx.Response(status))


def trouble_of_pages(answer: Callable[[], httpx.Response]) -> Callable[[httpx.Request], httpx.Response | None]:
    def trouble(request: httpx.Request) -> httpx.Response | None:
        return answer() if ROWS in request.url.path or "/rpc/" not in request.url.path else None

    return trouble


def failure(folder: Path, trouble: Callable[[httpx.Request], httpx.Response | None]) -> PipelineError:
    server = FakePostgrest([str(uuid4()) for _ in range(9)], trouble=trouble)
    with open_source(settings(folder), transport=server) as source:
        source.preflight([POSTS])
        with pytest.raises(PipelineError) as caught:
            source.read(POSTS, Spool(folder / "raw", POSTS.raw_schema))
    return caught.value


@pytest.mark.parametrize("html", [True, False], ids=["page", "empty"])
@pytest.mark.parametrize("status", STATUSES)
def test_a_status_that_stays_ends_with_what_to_do(tmp_path: Path, status: int, html: bool) -> None:
    error = failure(tmp_path, page_of(status, html))
    assert NAMES.get(status, "") in error.remedy
    assert error.remedy
    assert "public.posts, page 1 of range 1" in error.message
    assert "no message" not in error.message
    assert "<" not in str(error).replace("<ref>", "")


@pytest.mark.parametrize("code", CODES)
def test_a_code_that_stays_ends_with_what_to_do(tmp_path: Path, code: str) -> None:
    status, named = CODES[code]
    answer = {"code": code, "message": "said by the server"}
    error = failure(tmp_path, trouble_of_pages(lambda: httpx.Response(status, json=answer)))
    assert named in error.remedy
    call = httpx.MockTransport(lambda request: httpx.Response(status, json=answer))
    with pytest.raises(PipelineError) as caught:
        RestDatabase(settings(tmp_path), transport=call).call("etl_commit")
    assert caught.value.remedy


def test_a_page_with_200_is_reported(tmp_path: Path) -> None:
    error = failure(tmp_path, page_of(200, html=True))
    assert "HTML page instead of data" in error.message
    assert "SUPABASE_URL" in error.remedy
    call = httpx.MockTransport(lambda request: httpx.Response(200, html=PAGE))
    with pytest.raises(PipelineError, match="HTML page"):
        RestDatabase(settings(tmp_path), transport=call).call("etl_current")


@pytest.mark.parametrize(
    ("status", "says"),
    [(540, "is paused"), (402, "is restricted"), (404, "SUPABASE_URL"), (200, "HTML page"), (503, "")],
)
def test_the_doctor_tells_the_platforms_states_from_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, says: str
) -> None:
    """Neither `make migrate` nor a defect of the doctor, when a gateway answers in the project's place."""
    answers = httpx.MockTransport(lambda request: httpx.Response(status, html=PAGE))
    monkeypatch.setattr(project, "make_http", lambda s, identity=None: _client(answers))
    found = list(guarded("service key", project.identity_is_enough, settings(tmp_path)))
    text = " ".join(f"{f.what} {f.remedy}" for f in found)
    assert found[0].level == "fail"
    assert says in text
    assert "make migrate" not in text
    assert "defect" not in text


def _client(answers: httpx.MockTransport) -> httpx.Client:
    from tasks.platform.http import make_http

    return make_http(Settings(_env_file=None), transport=answers)
