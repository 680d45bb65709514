"""The site's own files. Their addresses carry a hash of the content, so a browser keeps them for good."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response
from starlette.staticfiles import StaticFiles

FOREVER = "public, max-age=31536000, immutable"
# What a module imports has no hash in its address: it is asked about each time, which costs a 304.
ASK = "public, no-cache"


class Static(StaticFiles):
    """Static files with cache headers."""

    def file_response(self, full_path: Any, stat_result: Any, scope: Any, status_code: int = 200) -> Response:
        response = super().file_response(full_path, stat_result, scope, status_code)
        response.headers["cache-control"] = FOREVER if b"v=" in scope["query_string"] else ASK
        return response
