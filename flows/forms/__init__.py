"""The forms of the flows that people start: what Prefect's UI shows, and what a wrong value is answered with."""

from flows.forms.backfill import MAX_BACKFILL_DAYS, BackfillForm
from flows.forms.base import Form
from flows.forms.compare import LATEST, CompareForm
from flows.forms.doctor import DoctorForm
from flows.forms.export import ExportForm, report_named
from flows.forms.nightly import MAX_RESTARTS, NightlyForm
from flows.forms.restore import PREVIOUS, RestoreForm
from flows.forms.retention import RetentionForm
from flows.forms.watch import WatchForm

__all__ = [
    "LATEST",
    "MAX_BACKFILL_DAYS",
    "MAX_RESTARTS",
    "PREVIOUS",
    "BackfillForm",
    "CompareForm",
    "DoctorForm",
    "ExportForm",
    "Form",
    "NightlyForm",
    "RestoreForm",
    "RetentionForm",
    "WatchForm",
    "report_named",
]
