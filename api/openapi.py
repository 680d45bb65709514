"""`/openapi.json` as it is served: with the body that every problem has, and with how one signs in."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from api.problems import MEDIA_TYPE, ProblemBody, documented

_REFS = "#/components/schemas/{model}"
_OF_THE_FRAMEWORK = ("HTTPValidationError", "ValidationError")  # a body that no answer of ours has
_SIGNING_IN = ("/auth/sign-in", "/auth/refresh")
_BEARER = {
    "type": "http",
    "scheme": "bearer",
    "bearerFormat": "JWT",
    "description": "`access_token` of POST /auth/sign-in. A browser has cookies in its place.",
}


class Documented(FastAPI):
    """An application whose document says what it really answers: clients are made from it."""

    def openapi(self) -> dict[str, Any]:
        """The document, made once."""
        if self.openapi_schema is None:
            self.openapi_schema = _document(self)
        return self.openapi_schema


def _document(app: FastAPI) -> dict[str, Any]:
    found = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    components = found["components"]
    body = ProblemBody.model_json_schema(ref_template=_REFS)
    components["schemas"] |= {**body.pop("$defs"), "ProblemBody": body}
    for name in _OF_THE_FRAMEWORK:
        components["schemas"].pop(name, None)
    components["securitySchemes"] = {"bearer": _BEARER}
    for path, operation in _operations(found):
        _as_answered(operation["responses"])
        if "401" in operation["responses"] and path not in _SIGNING_IN:
            operation["security"] = [{"bearer": []}]
    return found


def _operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    return ((path, operation) for path, of in document["paths"].items() for operation in of.values())


def _as_answered(responses: dict[str, Any]) -> None:
    """What cannot be used is a problem like any other, and so is what nobody foresaw."""
    if MEDIA_TYPE not in responses.get("422", {}).get("content", {MEDIA_TYPE: {}}):
        responses["422"] = documented(422)[422]
    responses.setdefault("default", {**documented(500)[500], "description": "Any other problem."})
