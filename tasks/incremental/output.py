"""A fingerprint of everything that shapes a run's rows and bytes, beside the rows of the source."""

from __future__ import annotations

import hashlib
import json

from tasks.platform.code import CODE
from tasks.settings import Settings


def output_fingerprint(settings: Settings) -> str:
    """Changes with contracts, rules, reports, partial tables, files, libraries, and the settings that shape files.

    Never the version of the code as git knows it, which can be unknown.
    """
    shape = {"part_rows": settings.part_rows, "row_group_rows": settings.row_group_rows, "code": CODE}
    return hashlib.sha256(json.dumps(shape, sort_keys=True).encode()).hexdigest()
