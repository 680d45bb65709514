"""The settings of `watch`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings

from tasks.settings.fields import Place

YEAR = 366 * 1_440  # in minutes


class WatchSettings(BaseSettings):
    """When changes start a run, and how they are seen."""

    watch_changes: int = Field(default=100, ge=1, description="So many changes start a run.")
    watch_minutes: float = Field(default=5, gt=0, le=YEAR, description="A single change waits for so long at most.")
    watch_every_minutes: float = Field(default=5, ge=0, le=YEAR, description="From one start to the next at least.")
    watch_poll_seconds: float = Field(default=30, gt=0, le=600, description="How often the database is asked.")
    watch_clear_minutes: float = Field(
        default=10, ge=0, le=YEAR, description="No run so shortly before a scheduled night."
    )
    watch_realtime: Literal["auto", "off"] = "auto"
    watch_silence_minutes: float = Field(
        default=15, gt=0, le=YEAR, description="Subscribe again after so long without a word."
    )
    watch_health: Place | None = Field(default=None, description="Health file; watch.json in data_dir when not set.")
