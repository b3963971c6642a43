# SPDX-License-Identifier: Apache-2.0
"""Sentences about wrong values: "`seed` is -2; it must be at least -1." pydantic's own do not show the value."""

import json
import math
import os
import re
from collections.abc import Mapping
from types import NoneType
from typing import Any

from pydantic_core import ErrorDetails

from fastapi_triton.core.errors import shown

# What a value must be, by pydantic's error type. Names in braces are in the error's context.
_EXPECTED = {
    "string_type": "text",
    **dict.fromkeys(("int_type", "int_parsing", "int_parsing_size", "int_from_float"), "a whole number"),
    **dict.fromkeys(("float_type", "float_parsing"), "a number"),
    "finite_number": "a finite number",
    **dict.fromkeys(("bool_type", "bool_parsing"), "true or false"),
    "path_not_file": "the path of a file",
    **dict.fromkeys(("list_type", "tuple_type", "set_type"), "a list"),
    **dict.fromkeys(("dict_type", "model_type", "model_attributes_type"), "an object"),
    "greater_than": "above {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "below {lt}",
    "less_than_equal": "at most {le}",
    "multiple_of": "a multiple of {multiple_of}",
}
# Limits of a length → the units of the length. The value is not shown: a long text would be cut anyway.
_LENGTHS = {
    "string_too_short": ("characters", "at least {min_length:,}"),
    "string_too_long": ("characters", "at most {max_length:,}"),
    "too_short": ("entries", "at least {min_length:,}"),
    "too_long": ("entries", "at most {max_length:,}"),
}
# A pattern that is a list of words.
_WORDS = re.compile(r"\^\(([\w.-]+(?:\|[\w.-]+)*)\)\$")
_PYDANTIC_PREFIX = "Input should "
_OWN_PREFIXES = ("Value error, ", "Assertion failed, ")
# A reason that begins with such a word continues a sentence about the field.
_VERBS = ("is", "has", "holds", "must")


def described(value: Any) -> str:
    """A wrong value as an error shows it: short JSON, or the type of a list or an object."""
    if isinstance(value, str):
        return f'"{shown(value)}"'
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, float) and not math.isfinite(value):
        return name_of(value)
    if isinstance(value, int | float):
        return shown(value)
    return "a list" if isinstance(value, list | tuple) else "an object"


def name_of(number: float) -> str:
    """The text for a number that JSON lacks."""
    return "NaN" if math.isnan(number) else "Infinity" if number > 0 else "-Infinity"


def sentence(subject: str, details: ErrorDetails) -> str:
    """The sentence about a problem that pydantic or one of our validators found. `subject` is the field: "`seed`"."""
    reason = _reason(details)
    if reason.split(" ", 1)[0] in _VERBS:
        text = f"{subject} {reason}"
    else:
        text = f"{subject}: {reason[:1].lower()}{reason[1:]}"
    return text if text.endswith((".", "?")) else f"{text}."


def _reason(details: ErrorDetails) -> str:
    kind, value = details["type"], details.get("input", ...)
    context = {name: _plain(each) for name, each in details.get("ctx", {}).items()}
    if kind in _LENGTHS and context:
        return _length_reason(kind, value, context)
    if isinstance(value, os.PathLike):
        value = str(value)
    expected = _expected(kind, context) or _described_by_pydantic(details["msg"])
    if expected is None:
        reason = details["msg"]
        for prefix in _OWN_PREFIXES:
            reason = reason.removeprefix(prefix)
        if not reason.startswith("must "):
            return reason
        expected = reason.removeprefix("must ")
    if isinstance(value, str | int | float | NoneType | list | dict):
        return f"is {described(value)}; it must {expected}"
    return f"must {expected}"


def _expected(kind: str, context: Mapping[str, Any]) -> str | None:
    if kind in _EXPECTED:
        return f"be {_EXPECTED[kind].format_map(context)}"
    if kind in ("literal_error", "enum"):
        return "be " + str(context["expected"]).replace("'", '"')
    if kind == "string_pattern_mismatch":
        words = _WORDS.fullmatch(str(context["pattern"]))
        return f"be one of {', '.join(words[1].split('|'))}" if words else f"match the pattern {context['pattern']}"
    return None


def _described_by_pydantic(message: str) -> str | None:
    return message.removeprefix(_PYDANTIC_PREFIX) if message.startswith(_PYDANTIC_PREFIX) else None


def _length_reason(kind: str, value: Any, context: Mapping[str, Any]) -> str:
    unit, limit = _LENGTHS[kind]
    limit = limit.format_map(context)
    length = len(value) if isinstance(value, str | list) else context.get("actual_length")
    return f"must have {limit} {unit}" if length is None else f"has {length:,} {unit}; it must have {limit}"


def _plain(value: Any) -> Any:
    """A limit as people write it: 50, not 50.0."""
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 1e15 else value
