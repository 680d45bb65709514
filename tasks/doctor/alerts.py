"""Checks of the alerts: whether somebody is notified when a night fails."""

from __future__ import annotations

from collections.abc import Iterator

import httpx

from tasks.doctor.findings import Finding, fail, ok, warn
from tasks.doctor.prefect import ask
from tasks.platform.alerts import SENDGRID, SLACK, SMTP, channels, problems, try_smtp
from tasks.settings import Settings

BOOTSTRAP = "Run `python -m scripts.bootstrap --test-alerts`: it sets them up and sends a test message."


def somebody_is_notified(settings: Settings) -> Iterator[Finding]:
    """The alert settings, whether the mail server takes them, and what the Prefect server has been set up with."""
    wrong = problems(settings)
    if not wrong and settings.alert_email and settings.alert_smtp_host:
        wrong += filter(None, [try_smtp(settings, seconds=5)])
    if wrong:
        again = "Correct it, then run `python -m scripts.bootstrap --test-alerts`."
        yield from (fail("alerts", sentence, again) for sentence in wrong)
        return
    wanted, known = set(channels(settings)), _on_the_server(settings)
    if known is None:
        text = "Settings are in order" if wanted else "None are set (ETL_ALERT_*)"
        yield ok("alerts", f"{text}; PREFECT_API_URL names no server to compare with.")
    elif missing := wanted - known:
        yield warn("alerts", f"The Prefect server does not have {', '.join(sorted(missing))} yet.", BOOTSTRAP)
    elif known:
        yield ok("alerts", f"The Prefect server notifies through {', '.join(sorted(known))}.")
    else:
        yield warn("alerts", "Nobody is notified when a night fails.", f"Set ETL_ALERT_* (.env.example). {BOOTSTRAP}")


def _on_the_server(settings: Settings) -> set[str] | None:
    """The notification blocks of ours on the server of PREFECT_API_URL; None when it is not set or does not answer."""
    if not settings.prefect_api_url:
        return None
    try:
        ours = ask(settings, "block_documents", {"name": {"any_": [SLACK, SENDGRID, SMTP]}})
        return {document["name"] for document in ours}
    except (httpx.HTTPError, ValueError):
        return None
