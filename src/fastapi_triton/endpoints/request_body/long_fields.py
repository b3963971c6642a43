# SPDX-License-Identifier: Apache-2.0
"""Finds the fields of a request model that can hold a long text."""

import functools
import re
from collections.abc import Mapping
from types import NoneType
from typing import Any, get_args

import annotated_types
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from fastapi_triton.endpoints.fields import sent_names
from fastapi_triton.endpoints.request_body.large_json import UNCHECKED_BYTES

_NUMBERS = frozenset((int, float, bool))
# A choice of words: the text is at most as long as the pattern.
_CHOICE = re.compile(r"\^\([\w|-]*\)\$")
# The longest escape of one character: a surrogate pair.
_MAX_CHARACTER_BYTES = 12


@functools.cache
def names(model: type[BaseModel]) -> frozenset[str] | None:
    """The JSON members in which a text longer than `UNCHECKED_BYTES` can be valid.

    None: in any member, because the model has nested fields, allows unknown ones or has its own validators.
    """
    decorators = model.__pydantic_decorators__
    has_validators = decorators.field_validators or decorators.model_validators or decorators.validators
    if has_validators or model.model_config.get("extra") != "forbid":
        return None
    schema = model.model_json_schema()
    if "$defs" in schema or not all(map(_is_plain, schema.get("properties", {}).values())):
        return None
    return frozenset(
        each
        for name, field in model.model_fields.items()
        if not _is_short(field)
        for each in (name, *sent_names(name, field))
    )


def _is_plain(schema: Mapping[str, Any]) -> bool:
    """Whether a field takes neither lists nor objects."""
    options = schema.get("anyOf", [schema])
    return all(each.get("type") not in (None, "array", "object") for each in options)


def _is_short(field: FieldInfo) -> bool:
    types = set(get_args(field.annotation) or (field.annotation,)) - {NoneType}
    if any(hasattr(each, "func") or hasattr(each, "__get_pydantic_core_schema__") for each in field.metadata):
        return False
    if types <= _NUMBERS:
        return True
    longest = [length for each in field.metadata if (length := _max_length(each)) is not None]
    return types == {str} and bool(longest) and min(longest) * _MAX_CHARACTER_BYTES < UNCHECKED_BYTES


def _max_length(constraint: object) -> int | None:
    if isinstance(constraint, annotated_types.MaxLen):
        return constraint.max_length
    pattern = getattr(constraint, "pattern", None)
    return len(pattern) if isinstance(pattern, str) and _CHOICE.fullmatch(pattern) else None
