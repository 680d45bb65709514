"""Settings: one field each, by the part that they are for; loaded from the environment and `.env`."""

from tasks.settings.fields import Transport, TransportChoice
from tasks.settings.load import LOCAL_PROJECT, load_settings, reader_settings, require_known_names, settings_over
from tasks.settings.model import SCHEDULED_WAIT, Settings

__all__ = [
    "LOCAL_PROJECT",
    "SCHEDULED_WAIT",
    "Settings",
    "Transport",
    "TransportChoice",
    "load_settings",
    "reader_settings",
    "require_known_names",
    "settings_over",
]
