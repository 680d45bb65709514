"""The form of the doctor."""

from __future__ import annotations

from pydantic import Field

from flows.forms.base import Form, field, transport
from tasks.settings import TransportChoice


class DoctorForm(Form):
    """What the doctor looks at. It changes nothing that lasts."""

    transport: TransportChoice = Field("auto", **transport(0))
    try_upload: bool = Field(
        True,
        **field(1, "Try an upload", "Upload a file of a few bytes to the bucket, read it back and delete it again."),
    )
    strict: bool = Field(False, **field(2, "Strict", "Warnings fail the run too."))
