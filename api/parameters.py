"""A query says what the route takes, and each of it once: what is not read would change the answer unnoticed."""

from __future__ import annotations

from difflib import get_close_matches

from fastapi import Request
from fastapi.routing import APIRoute

from api.problems import Problem


def known_once(request: Request) -> None:
    """Problem 422 for a parameter that the route does not have, or that is given twice."""
    route = request.scope["route"]
    if not isinstance(route, APIRoute):
        return
    known = [parameter.alias for parameter in route.dependant.query_params]
    given = [name for name, _ in request.query_params.multi_items()]
    for name in given:
        if name not in known:
            close = get_close_matches(name, known, n=1)
            remedy = f"Did you mean {close[0]}? " if close else ""
            takes = ", ".join(known) or "none"
            raise Problem(422, f"There is no parameter {name[:40]!r} here.", remedy=f"{remedy}There are: {takes}.")
        if given.count(name) > 1:
            remedy = "Separate the columns with commas." if name == "columns" else "Leave all but one out."
            raise Problem(422, f"{name} is given {given.count(name)} times.", remedy=remedy)
