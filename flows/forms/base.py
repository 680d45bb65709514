"""What all forms share: one base model, and fields as both of Prefect's UIs show them.

Prefect keeps titles, descriptions, bounds, dropdowns and order only of a nested model, so every flow takes one
parameter `options`. What JSON Schema can say is refused by the form itself; the rest by a sentence before any task.
No field is a secret: Prefect stores and logs parameters in plain text. Descriptions are plain text too: the old UI
would render Markdown in them, the V2 UI shows it as typed.
"""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler, ValidationInfo, field_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from tasks.errors import DAY, INSTANT
from tasks.read.options import not_a_number

_WRITTEN: dict[Any, str] = {date | None: DAY, datetime | None: INSTANT}
HIDDEN = "hidden"


class Form(BaseModel):
    """Base of all forms: unknown fields are refused, also by the form in the UI. White space around a text goes."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)

    @property
    def if_dry(self) -> str:
        """What the name of a run ends with: a dry run says so."""
        return " (dry run)" if getattr(self, "dry_run", False) else ""

    @field_validator("*", mode="before")
    @classmethod
    def _is_written(cls, value: Any, info: ValidationInfo) -> Any:
        like = _WRITTEN.get(cls.model_fields[str(info.field_name)].annotation)
        return not_a_number(value, like) if like else value

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """The schema with hidden fields as `patternProperties`: the server checks them and no form shows them."""
        schema = handler.resolve_ref_schema(handler(core))
        fields = schema.get("properties", {})
        hidden = {name: fields.pop(name) for name in [name for name, of in fields.items() if of.get(HIDDEN)]}
        if hidden:
            schema["patternProperties"] = {f"^{name}$": of for name, of in hidden.items()}
        return schema


def around(pattern: str) -> str:
    """The pattern of a whole text, as a form checks it: who pastes a text brings the white space around it, too."""
    return rf"^\s*{pattern}\s*$"


def names(pattern: str) -> str:
    """The pattern of an entry of a list of names: who writes several into one means each."""
    return around(rf"{pattern}(\s*,\s*{pattern})*")


def one_each(entries: list[str]) -> list[str]:
    """The names of such a list, each as an entry of its own; a comma too many is none."""
    return [name.strip() for entry in entries for name in entry.split(",") if name.strip()]


def field(position: int, title: str, description: str, **schema: Any) -> dict[str, Any]:
    """Title, description and place of a field, and what JSON Schema should say of it beyond its type."""
    return {"title": title, "description": description, "json_schema_extra": {"position": position, **schema}}


def optional(position: int, title: str, description: str, kind: str, **more: Any) -> dict[str, Any]:
    """A field that may stay empty, shown as one field of that kind: Prefect shows a union with null as two.

    kind: `date`, `date-time`, `integer` or `number`.
    """
    shape = {"type": kind} if kind in ("integer", "number") else {"type": "string", "format": kind}

    def show(schema: dict[str, Any]) -> None:
        del schema["anyOf"]
        schema.pop("default", None)
        schema.update(shape, position=position, **more)

    return {"title": title, "description": description, "json_schema_extra": show}


def transport(position: int) -> dict[str, Any]:
    """The choice of the transport, the same in every form."""
    return field(
        position,
        "Transport",
        "How to reach the project. postgres: one snapshot, best for large tables. rest: needs no database password. "
        "auto: postgres when SUPABASE_DB_URL is set.",
    )


def dry_run(position: int, description: str, *, off: str = "write") -> Any:
    """The switch that every form starts with: look first, then switch it off. off: what the flow does then."""
    return Field(True, **field(position, "Dry run", f"{description} Switch it off to {off}."))
