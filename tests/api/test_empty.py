"""A project without a single run: every page and route says so, and none fails."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from local_stack import Stack
from tests.api.conftest import make_account, serving, settings_for
from tests.conftest import emptied

pytestmark = pytest.mark.xdist_group("api")


@pytest.fixture(scope="module")
def analyst(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """An analyst at the site of an empty project."""
    folder: Path = tmp_path_factory.mktemp("empty")
    with serving(settings_for(emptied(stack), folder)) as http:
        http.headers.update(make_account(stack, "analyst").headers)
        yield http


@pytest.mark.parametrize("path", ["/", "/explore/daily_activity", "/quality"])
def test_a_page_says_that_there_is_no_run_yet(analyst: httpx.Client, path: str) -> None:
    answer = analyst.get(path, headers={"accept": "text/html"})
    assert answer.status_code == 200
    assert "No run was committed yet." in answer.text


@pytest.mark.parametrize(("path", "words"), [("/compare", "No run was committed yet."), ("/history", "No run yet")])
def test_lists_of_runs_are_empty(analyst: httpx.Client, path: str, words: str) -> None:
    assert words in analyst.get(path, headers={"accept": "text/html"}).text


def test_the_api_answers_with_a_problem_or_an_empty_list(analyst: httpx.Client) -> None:
    problem = analyst.get("/reports")
    assert (problem.status_code, problem.json()["detail"]) == (404, "No run was committed yet.")
    assert analyst.get("/reports/daily_activity").status_code == 404
    assert analyst.get("/runs").json() == {"items": [], "next": None}
    assert analyst.get("/health/ready").json()["status"] == "ok"
