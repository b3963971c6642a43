# SPDX-License-Identifier: Apache-2.0
"""A complete, valid request to an endpoint, for the OpenAPI document: `/docs` can send it as it stands."""

import logging
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic.errors import PydanticInvalidForJsonSchema

from fastapi_triton.endpoints.fields import sent_names

logger = logging.getLogger(__name__)

JSONSchema = Mapping[str, Any]
_FIXED = ("const", "default")
_CHOICES = ("anyOf", "oneOf", "allOf")


def of_model(request: type[BaseModel]) -> dict[str, Any] | None:
    """The required fields, and the others that declare `examples`. None if the model rejects it."""
    try:
        example = _of_fields(request)
        request.model_validate(example)
    except (PydanticInvalidForJsonSchema, ValidationError):
        return None
    except Exception as error:  # noqa: BLE001  # of the app's own validators, which must not prevent its start
        logger.warning("%s has no example in /docs, because a validator raised %r", request.__name__, error)
        return None
    return example


def _of_fields(request: type[BaseModel]) -> dict[str, Any]:
    fields = {sent_names(name, field)[0]: field for name, field in request.model_fields.items()}
    named = {sent: field for sent, field in fields.items() if field.examples or field.is_required()}
    # A schema takes milliseconds to make: only if a field needs it.
    schema = {} if all(field.examples for field in named.values()) else request.model_json_schema()
    properties, definitions = schema.get("properties", {}), schema.get("$defs", {})
    return {
        sent: field.examples[0] if field.examples else _of_schema(properties.get(sent, {}), definitions)
        for sent, field in named.items()
    }


def _of_schema(schema: JSONSchema, definitions: JSONSchema) -> Any:
    """The simplest value that the schema accepts. Ignores formats and patterns."""
    if "$ref" in schema:
        return _of_schema(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    given = [*schema.get("examples", ()), *schema.get("enum", ()), *(schema[key] for key in _FIXED if key in schema)]
    if given:
        return given[0]
    choices = next((schema[key] for key in _CHOICES if key in schema), None)
    return _of_schema(choices[0], definitions) if choices else _of_type(schema, definitions)


def _of_type(schema: JSONSchema, definitions: JSONSchema) -> Any:
    match schema.get("type"):
        case "object":
            properties = schema.get("properties", {})
            return {name: _of_schema(properties[name], definitions) for name in schema.get("required", ())}
        case "array":
            items = schema.get("prefixItems") or [schema.get("items", {})] * schema.get("minItems", 1)
            return [_of_schema(each, definitions) for each in items]
        case "integer" | "number":
            return _number(schema)
        case "boolean":
            return True
        case "null":
            return None
        case _:
            return "text".ljust(schema.get("minLength", 0), ".")[: schema.get("maxLength")]


def _number(schema: JSONSchema) -> Any:
    low = schema.get("minimum", schema.get("exclusiveMinimum", 0) + 1)
    high = schema.get("maximum", schema.get("exclusiveMaximum", low + 2) - 1)
    return min(max(low, 1), high) if low <= high else (low + high) / 2
