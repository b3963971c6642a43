# SPDX-License-Identifier: Apache-2.0
"""Values as A1111 and its clients save them: null and "None" for a default, and texts for true and false."""

from typing import Any

from pydantic import BaseModel, ValidationInfo

_TEXTS: dict[str, Any] = {"false": False, "true": True, "none": None, "null": None}
# Further words that pydantic reads as false.
_OFF = ("f", "n", "no", "off")
# Fields in which such a word is a text like any other.
_PROSE = ("prompt", "negative_prompt")


def plain(value: Any) -> Any:
    """The value that a text like "None" or "false" stands for; any other value itself."""
    return _TEXTS.get(value.strip().lower(), value) if isinstance(value, str) and len(value) < 8 else value


def is_nothing(value: Any) -> bool:
    """Whether a value asks for nothing: false, 0, empty, or a text for one of these, such as "None" and "0.0"."""
    value = plain(value)
    if not isinstance(value, str):
        return not value
    return not value.strip() or value.strip() in ("0", "0.0")


def is_off(value: Any) -> bool:
    """Whether the value of a switch means false: it asks for nothing, or is a word such as "no" and "off"."""
    return is_nothing(value) or (isinstance(value, str) and value.strip().lower() in _OFF)


def or_default(model: type[BaseModel], value: Any, info: ValidationInfo) -> Any:
    """A field's value for pydantic, with the field's default for null and for a text that stands for it.

    An empty text is null, too, where the field takes no text.
    """
    name = info.field_name or ""
    field = model.model_fields[name]
    saved = value if name in _PROSE else plain(value)
    if saved == "" and field.annotation not in (str, str | None):
        saved = None
    if saved is not None or field.is_required():
        return saved
    return field.get_default(call_default_factory=True)
