"""The charts of a run: PNG files beside its reports, in one style, the same bytes for the same figures.

They are drawn from the reports alone, so no chart knows more than the reports say.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from datetime import datetime

import pandas as pd

from tasks.charts.lines import activity, growth
from tasks.charts.maps import posting_hours, retention
from tasks.charts.quality import data_quality
from tasks.charts.style import drawing, save
from tasks.contracts import DAILY_ACTIVITY, DATA_QUALITY, POST_STATISTICS, SIGNUP_COHORTS, Report
from tasks.files.layout import instant
from tasks.files.manifest import FileEntry, entry_of
from tasks.reports.figures import PastRun
from tasks.settings import Settings
from tasks.workspace import Workspace

CHARTS = ("growth", "activity", "retention", "posting_hours", "data_quality")
VERSION = 2


def draw_charts(
    workspace: Workspace, *, as_of: datetime, history: Sequence[PastRun], settings: Settings
) -> list[FileEntry]:
    """Draw all charts of a run under `workspace.files`, from its report spools.

    history: runs that were there, newest first; this run is added to those of no later as_of.
    """
    folder = workspace.files / "charts"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    daily, quality = _frame(workspace, DAILY_ACTIVITY), _frame(workspace, DATA_QUALITY)
    shares = {(of["table"], of["rule"]): of["share"] for of in quality.to_dict("records")}
    runs = [PastRun(as_of, shares), *(past for past in history if past.as_of <= as_of)]
    entries = []
    with drawing():
        figures = {
            "growth": growth(daily, as_of=instant(as_of)),
            "activity": activity(daily, as_of=instant(as_of)),
            "retention": retention(_frame(workspace, SIGNUP_COHORTS), as_of=instant(as_of)),
            "posting_hours": posting_hours(_frame(workspace, POST_STATISTICS)),
            "data_quality": data_quality(runs),
        }
        for name in CHARTS:
            path = folder / f"{name}.png"
            save(figures[name], path)
            entries.append(entry_of(path, workspace.files, rows=0, version=VERSION, kind="chart"))
    return entries


def _frame(workspace: Workspace, report: Report) -> pd.DataFrame:
    """A report as pandas sees it, days as datetime64."""
    frame: pd.DataFrame = workspace.report(report).table().to_pandas(date_as_object=False)
    return frame
