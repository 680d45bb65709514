"""The notification blocks of the Prefect server: made and brought up to date from the settings, tested, removed."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast
from uuid import UUID

import httpx
from prefect.blocks.notifications import SendgridEmail, SlackWebhook
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import BlockDocument
from prefect.exceptions import PrefectHTTPStatusError
from pydantic import SecretStr

from tasks.platform.alerts import SENDGRID, SLACK, SMTP, channels, sender_of
from tasks.settings import Settings

TYPES = {SLACK: "slack-webhook", SENDGRID: "sendgrid-email", SMTP: "slack-webhook"}
SUBJECT = "supabase-nightly: a test message"
BODY = "Alerts of supabase-nightly arrive here: failed, held, crashed and late nights, and a night that never came."


def ensure(settings: Settings) -> dict[str, UUID]:
    """Save the blocks that the settings name; keep those that they do not name. Returns name to id of all of ours."""
    for name, address in channels(settings).items():
        _block(settings, name, address).save(name, overwrite=True)
    return existing()


def _block(settings: Settings, name: str, address: str) -> SlackWebhook | SendgridEmail:
    """A block that every Prefect server knows, also Prefect Cloud.

    None of its types is made for SMTP; its webhook block hands any other address on to Apprise, which sends mail too.
    """
    if name != SENDGRID:
        return SlackWebhook(url=SecretStr(address))
    return SendgridEmail(
        api_key=settings.alert_sendgrid_key, sender_email=sender_of(settings), to_emails=[settings.alert_email]
    )


def existing() -> dict[str, UUID]:
    """The blocks of ours that the server has."""
    with get_client(sync_client=True) as client:
        return {name: d.id for name, slug in TYPES.items() for d in _of_type(client, slug) if d.name == name}


def _of_type(client: SyncPrefectClient, slug: str) -> list[BlockDocument]:
    """The blocks of a type; none where the server lacks the type.

    One with a new database in its old folder does: Prefect notes there that its types are registered.
    """
    try:
        return client.read_block_documents_by_type(block_type_slug=slug)
    except PrefectHTTPStatusError as error:
        if error.response.status_code == httpx.codes.NOT_FOUND:
            return []
        raise


def remove() -> list[str]:
    """Delete the blocks of ours. Returns their names."""
    with get_client(sync_client=True) as client:
        for id_ in (names := existing()).values():
            client.delete_block_document(id_)
    return sorted(names)


def send_test(say: Callable[[str], None]) -> bool:
    """Send a test message through every block that the server has; True when each was taken, and there is one."""
    names = sorted(existing())
    if not names:
        say("No alerts are set up: set ETL_ALERT_SLACK_WEBHOOK, or ETL_ALERT_EMAIL with ETL_ALERT_SMTP_HOST.")
        return False
    taken = [_sent(name, say) for name in names]  # each is tried, also after one that failed
    return all(taken)


def _sent(name: str, say: Callable[[str], None]) -> bool:
    kind = SendgridEmail if name == SENDGRID else SlackWebhook
    block = cast("SlackWebhook | SendgridEmail", kind.load(name))
    try:
        with block.raise_on_failure():
            block.notify(BODY, SUBJECT)
    except Exception as error:  # noqa: BLE001 - its text may hold the address, and with it a secret
        say(f"The test message through {name} was not taken ({type(error).__name__}): check its settings, then again.")
        return False
    say(f"A test message went out through {name}.")
    return True
