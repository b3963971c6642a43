# SPDX-License-Identifier: Apache-2.0
"""Finds the fields of a request model that can hold a long text."""

import functools
import re
from collections.abc import Mapping
from types import NoneType
from typing import Any, get_args

import annotated_types
from pydantic import BaseModel, RootModel
from pydantic.fields import FieldInfo

from fastapi_triton.endpoints import images
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

    None: in any member, because the model or one in it allows unknown members, has lists of texts or own validators.
    """
    decorators = model.__pydantic_decorators__
    has_validators = decorators.field_validators or decorators.model_validators or decorators.validators
    is_root = issubclass(model, RootModel)
    if has_validators or (model.model_config.get("extra") != "forbid" and not is_root):
        return None
    schema = model.model_json_schema()
    properties = {} if is_root else schema["properties"]
    found: set[str] = set()
    for name, field in model.model_fields.items():
        inner = _inner_model(field.annotation)
        if images.holds_picture(field):
            # The elements of a list have no name.
            found |= {name, *sent_names(name, field), *images.members(field)}
            found |= {""} if images.is_list_of_pictures(field) else set()
        elif inner is not None:
            within = names(inner)
            if within is None:
                return None
            found |= within
        elif not _is_plain(properties.get(field.alias or name, {})):
            return None
        elif not _is_short(field):
            found |= {name, *sent_names(name, field)}
    return frozenset(found)


def _inner_model(annotation: Any) -> type[BaseModel] | None:
    """The model of a field that takes objects, or a list of objects."""
    types = [each for each in get_args(annotation) or (annotation,) if each is not NoneType]
    is_model = len(types) == 1 and isinstance(types[0], type) and issubclass(types[0], BaseModel)
    return types[0] if is_model else None


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
