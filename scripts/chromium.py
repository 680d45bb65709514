"""The Chromium of this machine, for pictures of the pages and for tests of them."""

from __future__ import annotations

import shutil

# The one that has no windows first: the same pages take half of its time.
NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
MISSING = "No Chromium was found: apt-get install chromium-headless-shell, or chromium"


def find_chromium() -> str | None:
    """Its path; None where there is none."""
    return next(filter(None, map(shutil.which, NAMES)), None)
