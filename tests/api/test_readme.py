"""The README's curl commands, as they stand, against the application."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest

from tests.api.conftest import Site
from tests.handbook.blocks import ROOT, environment, shell, with_own

(BLOCK,) = re.findall(r"```sh\n(token=.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


@pytest.mark.skipif(not (shutil.which("curl") and shutil.which("jq")), reason="curl or jq is not installed")
def test_an_analyst_downloads_and_compares_by_curl(site: Site, tmp_path: Path) -> None:
    ana, (first, _) = site.people["analyst"], site.runs
    own = {"ana@example.com": ana.email, '"…"': f'"{ana.password}"', "base=2026-01-30": f"base={first}"}
    text = with_own(BLOCK, {**own, "-o daily.csv": f"-o {tmp_path}/daily.csv"})
    said = shell(text, environment(tmp_path, {"site": str(site.http.base_url).rstrip("/")}))
    days = pd.read_csv(tmp_path / "daily.csv")["date"]
    assert days.min() == "2026-01-01"
    assert {"added", "removed", "changed"} <= json.loads(said).keys()
