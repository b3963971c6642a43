# SPDX-License-Identifier: Apache-2.0
"""What `/openapi.json` says of a declared endpoint: its bodies in every form, and its errors."""

from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from fastapi_triton import bodies, images, problems
from fastapi_triton.endpoints import InferEndpoint

_REF = "#/components/schemas/{model}"
_ERRORS = {
    400: "The body cannot be read",
    406: "No format that the caller accepts",
    413: "The body or a picture is over its limit",
    415: "Neither JSON nor a form",
    422: "Readable, but it cannot be served; `errors` names the fields",
    502: "The model failed",
    503: "Overloaded, or the model is not ready; see Retry-After",
    504: "No answer before the deadline",
}


def operation(endpoint: InferEndpoint) -> dict[str, Any]:
    """The parts of the operation object that FastAPI cannot read off a signature."""
    request = endpoint.request_model
    content: dict[str, Any] = {
        bodies.JSON: {"schema": {"$ref": _REF.format(model=request.__name__)}},
        bodies.FORM: {"schema": _form_schema(request)},
    }
    answer: dict[str, Any] = {
        media: {"schema": {"type": "string", "format": "binary"}} for media in endpoint.offers[1:]
    }
    answer[endpoint.offers[0]] = {"schema": {"$ref": _REF.format(model=endpoint.response_model.__name__)}}
    responses: dict[str, Any] = {"200": {"description": "The model's answer", "content": answer}}
    for status, meaning in _ERRORS.items():
        responses[str(status)] = {
            "description": meaning,
            "content": {problems.MEDIA_TYPE: {"schema": {"$ref": _REF.format(model="Problem")}}},
        }
    return {"requestBody": {"required": True, "content": content}, "responses": responses}


def components(endpoints: Iterable[InferEndpoint]) -> dict[str, Any]:
    """The schemas that `operation` points to."""
    pairs: list[tuple[type[BaseModel], Any]] = []
    for endpoint in endpoints:
        pairs += [(endpoint.request_model, "validation"), (endpoint.response_model, "serialization")]
    _, schemas = models_json_schema(pairs, ref_template=_REF)
    return {"Problem": problems.SCHEMA, **schemas.get("$defs", {})}


def _form_schema(request: type[BaseModel]) -> dict[str, Any]:
    """The same fields as a form has them: a picture is a file."""
    schema = request.model_json_schema(ref_template=_REF)
    for name, field in request.model_fields.items():
        if images.is_image(field.metadata):
            schema["properties"][name] = {"type": "string", "format": "binary", "title": name.title()}
    return schema
