# SPDX-License-Identifier: Apache-2.0
"""The values that a pydantic field accepts, from its JSON Schema: plain types, nested lists, lengths, ranges."""

import functools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue, JsonSchemaWarningKind
from pydantic_core import CoreSchema, core_schema

# JSON Schemas by name, or the members of one JSON Schema.
Schemas = Mapping[str, Any]

_TYPES: Mapping[str, type] = {"boolean": bool, "integer": int, "number": float, "string": str, "object": dict}
_LOWEST = ("minimum", "exclusiveMinimum")
_HIGHEST = ("maximum", "exclusiveMaximum")


@dataclass(frozen=True, slots=True)
class Bounds:
    """The smallest and the largest value that a number, or the length of a list, may have."""

    low: float = -math.inf
    high: float = math.inf


@dataclass(frozen=True, slots=True)
class Value:
    """One alternative of a field: a plain type, or dict for an object.

    `lengths` are those of the lists around it, outermost first. `options` are the values of a Literal or an Enum.
    """

    plain: type
    lengths: tuple[Bounds, ...] = ()
    bounds: Bounds = Bounds()
    options: tuple[Any, ...] = ()


def values(model: type[BaseModel], name: str) -> list[Value]:
    """The alternatives of a field, without unknown ones (Any, a type with its own validator)."""
    properties, definitions = _schemas(model)
    return _values(properties[name], definitions)


@functools.cache
def list_depths(model: type[BaseModel]) -> Mapping[str, int]:
    """How deeply each field's lists are nested: 0 for a plain value or an unknown type."""
    properties, definitions = _schemas(model)
    return {name: _depth(schema, definitions) for name, schema in properties.items()}


class _SchemaGenerator(GenerateJsonSchema):
    """Makes the schema of any model. Types that JSON Schema cannot describe get an empty schema."""

    ignored_warning_kinds: set[JsonSchemaWarningKind] = {"skipped-choice", "non-serializable-default"}  # noqa: RUF012

    def handle_invalid_for_json_schema(self, schema: CoreSchema, error_info: str) -> JsonSchemaValue:  # noqa: ARG002
        return {}

    def decimal_schema(self, schema: core_schema.DecimalSchema) -> JsonSchemaValue:  # noqa: ARG002
        return {"type": "number"}


@functools.cache
def _schemas(model: type[BaseModel]) -> tuple[Schemas, Schemas]:
    """The schemas of a model's fields, and the definitions that they refer to."""
    schema = model.model_json_schema(by_alias=False, schema_generator=_SchemaGenerator)
    definitions = schema.get("$defs", {})
    resolved, _ = _resolved(schema, definitions)  # the schema of a recursive model is a reference
    return resolved.get("properties", {}), definitions


def _resolved(schema: Schemas, definitions: Schemas) -> tuple[Schemas, Schemas]:
    """The schema behind a reference, and the definitions without it, so that recursion ends."""
    name = schema.get("$ref", "").rpartition("/")[2]
    if not name:
        return schema, definitions
    return definitions.get(name, {}), {each: other for each, other in definitions.items() if each != name}


def _items(schema: Schemas) -> list[Schemas]:
    return [each for each in (*schema.get("prefixItems", ()), schema.get("items")) if isinstance(each, dict)]


def _depth(schema: Schemas, definitions: Schemas) -> int:
    schema, definitions = _resolved(schema, definitions)
    if schema.get("type") == "array":
        return 1 + max((_depth(each, definitions) for each in _items(schema)), default=0)
    return max((_depth(each, definitions) for each in schema.get("anyOf", schema.get("oneOf", ()))), default=0)


def _values(schema: Schemas, definitions: Schemas) -> list[Value]:
    schema, definitions = _resolved(schema, definitions)
    if alternatives := schema.get("anyOf", schema.get("oneOf")):
        return [value for each in alternatives for value in _values(each, definitions)]
    if options := schema.get("enum", [schema["const"]] if "const" in schema else None):
        return _options(options)
    kind = schema.get("type", "")
    if kind == "array":
        length = Bounds(schema.get("minItems", 0), schema.get("maxItems", math.inf))
        inner = [value for each in _items(schema) for value in _values(each, definitions)]
        return list(dict.fromkeys(replace(each, lengths=(length, *each.lengths)) for each in inner))
    if kind not in _TYPES:
        return []
    bounds = Bounds(
        max((schema[each] for each in _LOWEST if each in schema), default=-math.inf),
        min((schema[each] for each in _HIGHEST if each in schema), default=math.inf),
    )
    return [Value(bytes if schema.get("format") == "binary" else _TYPES[kind], bounds=bounds)]


def _options(options: Iterable[Any]) -> list[Value]:
    by_type: dict[type, list[Any]] = {}
    for each in options:
        if each is not None:
            by_type.setdefault(type(each), []).append(each)
    return [Value(plain, options=tuple(same)) for plain, same in by_type.items()]
