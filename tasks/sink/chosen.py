"""The one place that chooses a sink."""

from __future__ import annotations

from tasks.settings import Settings
from tasks.sink.postgres import PostgresSink
from tasks.sink.rest import RestSink
from tasks.sink.sink import Sink


def sink_of(settings: Settings) -> Sink:
    """The sink on the transport of the settings."""
    return PostgresSink(settings) if settings.resolved_transport == "postgres" else RestSink(settings)
