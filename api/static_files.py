"""The site's own files. Their addresses carry a hash of the content, so a browser keeps them for good."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from starlette.responses import Response
from starlette.staticfiles import StaticFiles

from api.site.context import STATIC, static

FOREVER = "public, max-age=31536000, immutable"
# What a module imports has no hash in its address: it is asked about each time, which costs a 304.
ASK = "public, no-cache"


class Static(StaticFiles):
    """Static files with cache headers."""

    def file_response(self, full_path: Any, stat_result: Any, scope: Any, status_code: int = 200) -> Response:
        response = super().file_response(full_path, stat_result, scope, status_code)
        path = Path(full_path).relative_to(STATIC.resolve()).as_posix()
        # A page of another release asks for another content, which may come back with that release.
        is_this_content = static(path).endswith(f"?{scope['query_string'].decode('latin-1')}")
        response.headers["cache-control"] = FOREVER if is_this_content else ASK
        return response
