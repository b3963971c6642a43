# SPDX-License-Identifier: Apache-2.0
"""The OpenAPI operation of a declared endpoint: request bodies, responses and errors."""

from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from fastapi_triton.core import problem_details
from fastapi_triton.endpoints import content_negotiation, openapi
from fastapi_triton.endpoints.declared.endpoint import InferEndpoint
from fastapi_triton.endpoints.request_body import validation
from fastapi_triton.middleware.deadline import HEADER as DEADLINE_HEADER


def operation(endpoint: InferEndpoint) -> dict[str, Any]:
    """The parts of the operation object that FastAPI cannot read from a signature."""
    schema = {"$ref": openapi.REF.format(model=endpoint.response_model.__name__)}
    content: dict[str, Any] = {content_negotiation.JSON: {"schema": schema}}
    for media_type in endpoint.offers[1:]:
        is_picture = media_type in content_negotiation.PICTURES
        content[media_type] = openapi.BINARY if is_picture else openapi.events(schema)
    described = {
        "parameters": [
            openapi.header(
                DEADLINE_HEADER,
                "The deadline in seconds, such as 30 or 2.5; without a response until then, the request fails with 504",
            )
        ],
        **openapi.request_body(validation.JSON, validation.FORM, model=endpoint.request_model),
        "responses": openapi.responses("The model's response", content, 400, 406, 413, 415, 422, 502, 503, 504),
    }
    return described if endpoint.jobs is None else openapi.with_jobs(described)


def describe_operation() -> dict[str, Any]:
    """The operation object of `GET …/describe`."""
    content = {content_negotiation.JSON: {"schema": {"type": "object", "additionalProperties": True}}}
    no_description = openapi.described_errors({404: "The model does not describe itself"})
    return {
        "responses": {
            **openapi.responses("The model's description of itself", content, 502, 503, 504),
            **no_description,
        }
    }


def components(endpoints: Iterable[InferEndpoint], others: Iterable[type[BaseModel]] = ()) -> dict[str, Any]:
    """The schemas that `operation` refers to, and those of `others`, the bodies of other requests."""
    pairs: list[tuple[type[BaseModel], Any]] = [(each, "validation") for each in others]
    for endpoint in endpoints:
        pairs += [(endpoint.request_model, "validation"), (endpoint.response_model, "serialization")]
    _, schemas = models_json_schema(pairs, ref_template=openapi.REF)
    return {"Problem": problem_details.SCHEMA, **schemas.get("$defs", {})}
