"""The doctor: what keeps a run from working, each as a line with its remedy. It changes nothing that lasts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tasks.doctor import alerts, bucket, live, machine, postgres, prefect, project
from tasks.doctor.findings import MARKS, Check, Finding, guarded
from tasks.errors import ConfigurationError
from tasks.platform.identity import acting
from tasks.settings import Settings, settings_over

UPLOAD = "upload"
# What a run needs first; when one of these fails, the checks of the project would only say so again.
FIRST: tuple[tuple[str, Check], ...] = (
    ("settings", machine.settings_make_sense),
    ("versions", machine.versions_are_pinned),
    ("disk", machine.disk_has_room),
    ("postgres", postgres.address_is_right),
    ("identity", project.identity_is_enough),
)
THEN: tuple[tuple[str, Check], ...] = (
    ("public key", project.public_key_sees_nothing),
    ("tables", project.tables_are_as_declared),
    ("sources", project.sources_are_whole),
    ("row cap", project.row_cap),
    ("bucket", bucket.bucket_is_private),
    (UPLOAD, bucket.upload_works),
    ("last run", project.last_run_is_fresh),
    (prefect.CHECK, prefect.deployments_are_there),
    ("alerts", alerts.somebody_is_notified),
    ("realtime", live.changes_are_seen),
)
GATES = frozenset({"settings", "identity"})
QUICK = {"retries": 0, "connect_timeout": 5.0, "read_timeout": 20.0}


def examine(*, transport: str = "auto", try_upload: bool = True) -> Iterator[Finding]:
    """All findings, in the order of the checks, each as soon as it is there."""
    try:
        settings = settings_over(transport).model_copy(update=QUICK)
    except ConfigurationError as error:
        yield Finding("settings", "fail", error.message, error.remedy)
        return
    with acting(settings):
        yield from _examine(settings, try_upload=try_upload)


def _examine(settings: Settings, *, try_upload: bool) -> Iterator[Finding]:
    shut = False
    for name, check in FIRST:
        for finding in guarded(name, check, settings):
            shut |= finding.level == "fail" and finding.check in GATES
            yield finding
    if shut:
        yield Finding("project", "warn", "Not checked further.", "Fix the above first, then start again.")
        return
    for name, check in THEN:
        if name != UPLOAD or try_upload:
            yield from guarded(name, check, settings)


def sound(findings: Sequence[Finding], *, strict: bool = False) -> bool:
    """Whether nothing failed; `strict`: and nothing was warned of."""
    return not any(f.level == "fail" or (strict and f.level == "warn") for f in findings)


def line(finding: Finding) -> str:
    """One line for a terminal or a log."""
    remedy = f" → {finding.remedy}" if finding.remedy else ""
    return f"{MARKS[finding.level]} {finding.check:<17} {finding.what}{remedy}"


__all__ = ["MARKS", "Finding", "examine", "line", "sound"]
