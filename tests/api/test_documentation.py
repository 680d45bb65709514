"""`/openapi.json`: what people read of each route, and what clients are made from."""

from __future__ import annotations

import json
import re

import pytest

from tests.api.conftest import Site

pytestmark = pytest.mark.xdist_group("api")


def test_the_documentation_has_a_sentence_and_examples_for_every_route(site: Site) -> None:
    document = site.http.get("/openapi.json").json()
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert operation.get("description"), (method, path)
            assert operation["tags"], (method, path)
    assert not [path for path in document["paths"] if path.startswith(("/explore", "/pulse", "/sign-in"))]
    assert document["components"]["schemas"]["ReportInfo"]["properties"]["name"]["examples"]


def test_clients_can_be_made_from_the_documentation(site: Site) -> None:
    """It named a body for every problem that it did not have, another one for 422, and no way to send a token."""
    document = site.http.get("/openapi.json").json()
    for named in set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(document))):
        assert document["components"]["schemas"][named]["properties"]
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            problems = {code: of for code, of in operation["responses"].items() if code == "422" or code == "default"}
            assert all(list(of["content"]) == ["application/problem+json"] for of in problems.values()), (method, path)
            signs_in = path in ("/auth/sign-in", "/auth/refresh")
            signed_in = "401" in operation["responses"] and not signs_in
            assert operation.get("security") == ([{"bearer": []}] if signed_in else None), (method, path)
            assert not signs_in or operation["requestBody"]["content"]["application/json"]["schema"]["properties"]
