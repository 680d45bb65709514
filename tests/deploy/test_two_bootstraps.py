"""Two bootstraps of one new server at the same moment, as two containers start them, and one on a busy machine."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from deploy.automations import Targets, planned, save
from deploy.server_setup import SetupError, deploy, ensure_pool, note_project
from flows.engine.form_command import run_form
from flows.export import export
from flows.forms import ExportForm
from scripts.bootstrap import main as bootstrap
from tasks.settings import Settings


class _Prefect(BaseHTTPRequestHandler):
    """Answers as Prefect's server does to who was second: nothing was there, and then the other's is."""

    looks: Iterator[list[dict[str, Any]]]
    deleted: list[str]
    says_of_deleted = 204

    def do_GET(self) -> None:
        self._answer(404, {"detail": "not found"})

    def version(self) -> None:
        self._answer(200, "2.20.0")

    def page(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<!doctype html>")

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        if self.path.startswith(("/api/work_pools", "/api/variables")):
            self._answer(409, {"detail": "it exists"})
        elif self.path.endswith("/filter"):
            self._answer(200, next(self.looks))
        else:
            self._answer(201, {"id": str(uuid.uuid4())})

    def do_DELETE(self) -> None:
        self.deleted.append(self.path.rpartition("/")[2])
        self._answer(self.says_of_deleted, None)

    def _answer(self, status: int, body: object) -> None:
        text = b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def second() -> Iterator[type[_Prefect]]:
    server = HTTPServer(("127.0.0.1", 0), _Prefect)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with temporary_settings({PREFECT_API_URL: f"http://127.0.0.1:{server.server_port}/api"}):
        yield _Prefect
    server.shutdown()
    server.server_close()


@pytest.mark.usefixtures("second")
def test_what_was_made_meanwhile_is_taken() -> None:
    ensure_pool()
    note_project("abcdefghijklmnopqrst")


def test_an_address_without_api_and_a_server_of_another_release_are_sentences(
    second: type[_Prefect], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", PREFECT_API_URL.value())
    monkeypatch.setattr(second, "do_GET", second.page)
    assert bootstrap([]) == 1
    assert "is no API of Prefect's, whose address ends in /api." in capsys.readouterr().err
    monkeypatch.setattr(second, "do_GET", second.version)
    for name, value in {"SUPABASE_URL": "http://127.0.0.1:9", "SUPABASE_SERVICE_KEY": "sb_secret_hush"}.items():
        monkeypatch.setenv(name, value)
    assert run_form(export, ExportForm, "export", []) == 1
    said = capsys.readouterr().err
    assert "cannot be used: Found incompatible versions: client: 3" in said
    assert "Nothing was read or written.\n  Look at PREFECT_API_URL" in said


def test_a_machine_that_is_too_busy_to_deploy_is_a_sentence(
    second: type[_Prefect], monkeypatch: pytest.MonkeyPatch
) -> None:
    second.looks = iter([[]])
    monkeypatch.setattr("deploy.server_setup.DEPLOY_SECONDS", 0.1)
    with pytest.raises(SetupError, match="did not end in 0 s: this machine or the server is too busy"):
        deploy(Settings(_env_file=None))


@pytest.mark.parametrize("says", [204, 404], ids=["deleted", "the other one has deleted it"])
def test_of_two_automations_of_one_name_both_keep_the_same(
    second: type[_Prefect], monkeypatch: pytest.MonkeyPatch, says: int
) -> None:
    monkeypatch.setattr(second, "says_of_deleted", says)
    automation = next(iter(planned(Targets({"nightly": uuid.uuid4()}))))
    ids = sorted(str(uuid.uuid4()) for _ in range(2))
    there = [{**automation.model_dump(mode="json"), "id": one} for one in ids]
    for both in (there, there[::-1]):
        second.looks, second.deleted = iter([[], both]), []
        assert save(automation) is True
        assert second.deleted == [ids[1]]
