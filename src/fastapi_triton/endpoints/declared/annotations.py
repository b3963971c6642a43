# SPDX-License-Identifier: Apache-2.0
"""What a pydantic field admits, as far as its annotation tells: plain types, nesting of lists, lengths, ranges."""

import collections.abc
import enum
import math
import types
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic import BaseModel
from pydantic.fields import FieldInfo

PLAIN_TYPES = (bool, int, float, str, bytes)


@dataclass(frozen=True, slots=True)
class Bounds:
    """The smallest and the largest that is admitted, of a number or of a list's length."""

    low: float = -math.inf
    high: float = math.inf

    def narrowed(self, metadata: Iterable[Any]) -> "Bounds":
        """With the `ge`, `gt`, `le` and `lt` of a field."""
        low, high = self.low, self.high
        for each in metadata:
            for name in ("ge", "gt"):
                low = max(low, _number(getattr(each, name, None), -math.inf))
            for name in ("le", "lt"):
                high = min(high, _number(getattr(each, name, None), math.inf))
        return Bounds(low, high)


@dataclass(frozen=True, slots=True)
class Value:
    """One alternative of an annotation: a plain type (or dict for an object), in lists of these lengths, outermost
    first; `options` are the values of a Literal or an Enum."""

    plain: type
    lengths: tuple[Bounds, ...] = ()
    bounds: Bounds = Bounds()
    options: tuple[Any, ...] = ()


def values(field: FieldInfo) -> list[Value]:
    """The alternatives of a field; what cannot be told (Any, a type with a validator of its own) is left out."""
    return _values(field.annotation, field.metadata)


def _values(annotation: Any, metadata: Iterable[Any]) -> list[Value]:
    origin, arguments = get_origin(annotation), get_args(annotation)
    metadata = list(_flat(metadata))
    if origin is Annotated:
        return _values(arguments[0], [*arguments[1:], *metadata])
    if origin in (Union, types.UnionType):
        return [each for part in arguments if part is not types.NoneType for each in _values(part, metadata)]
    if origin is Literal:
        return _options(arguments)
    if origin is tuple and Ellipsis not in arguments:
        length = Bounds(len(arguments), len(arguments))
        return _in_list(arguments, length)
    if origin in (list, tuple, collections.abc.Sequence):
        return _in_list([each for each in arguments if each is not Ellipsis], _length(metadata))
    return _plain(annotation, metadata)


def _in_list(items: Iterable[Any], length: Bounds) -> list[Value]:
    inner = [each for item in items for each in _values(item, ())]
    return list(dict.fromkeys(replace(each, lengths=(length, *each.lengths)) for each in inner))


def _plain(annotation: Any, metadata: list[Any]) -> list[Value]:
    if get_origin(annotation) in (dict, collections.abc.Mapping):
        return [Value(dict)]
    if not isinstance(annotation, type):
        return []
    if issubclass(annotation, enum.Enum):
        return _options([each.value for each in annotation])
    if issubclass(annotation, BaseModel | dict):
        return [Value(dict)]
    plain = next((each for each in PLAIN_TYPES if issubclass(annotation, each)), None)
    return [Value(plain, bounds=Bounds().narrowed(metadata))] if plain else []


def _options(options: Iterable[Any]) -> list[Value]:
    by_type: dict[type, list[Any]] = {}
    for each in options:
        if each is not None:
            by_type.setdefault(type(each), []).append(each)
    return [Value(plain, options=tuple(same)) for plain, same in by_type.items()]


def _flat(metadata: Iterable[Any]) -> Iterable[Any]:
    """`Field(…)` inside an annotation, as the constraints that it holds."""
    for each in metadata:
        if isinstance(each, FieldInfo):
            yield from each.metadata
        elif isinstance(each, annotated_types.GroupedMetadata):
            yield from each
        else:
            yield each


def _length(metadata: Iterable[Any]) -> Bounds:
    low, high = 0.0, math.inf
    for each in metadata:
        low = max(low, _number(getattr(each, "min_length", None), 0))
        high = min(high, _number(getattr(each, "max_length", None), math.inf))
    return Bounds(low, high)


def _number(value: Any, otherwise: float) -> float:
    return value if isinstance(value, int | float) else otherwise
