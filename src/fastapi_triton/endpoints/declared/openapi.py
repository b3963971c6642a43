# SPDX-License-Identifier: Apache-2.0
"""What `/openapi.json` says of a declared endpoint: its bodies in every form, and its errors."""

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from fastapi_triton.core import problem_details
from fastapi_triton.endpoints import content_negotiation, images
from fastapi_triton.endpoints.declared.endpoint import InferEndpoint
from fastapi_triton.endpoints.fields import callers_name
from fastapi_triton.endpoints.request_body import validation
from fastapi_triton.endpoints.sse import QUEUED
from fastapi_triton.middleware.deadline import HEADER as DEADLINE_HEADER

_REF = "#/components/schemas/{model}"
_ERRORS = {
    400: "The body cannot be read",
    403: "This caller may not do it",
    404: "There is no such model, version, endpoint or job",
    406: "No format that the caller accepts",
    409: "It contradicts what is there already",
    410: "It was there once, and is not kept any longer",
    413: "The body or a picture is over its limit",
    415: "Neither JSON nor a form",
    422: "Readable, but it cannot be served; `errors` names the fields",
    429: "This caller has more than its share",
    502: "The model failed",
    503: "Overloaded, or the model is not ready; see Retry-After",
    504: "No answer before the deadline",
}


def operation(endpoint: InferEndpoint) -> dict[str, Any]:
    """The parts of the operation object that FastAPI cannot read off a signature."""
    request = endpoint.request_model
    content: dict[str, Any] = {
        validation.JSON: {"schema": {"$ref": _REF.format(model=request.__name__)}},
        validation.FORM: {"schema": _form_schema(request)},
    }
    schema = {"$ref": _REF.format(model=endpoint.response_model.__name__)}
    answer: dict[str, Any] = {content_negotiation.JSON: {"schema": schema}}
    for media_type in endpoint.offers[1:]:
        is_picture = media_type in content_negotiation.PICTURES
        answer[media_type] = {"schema": {"type": "string", "format": "binary"}} if is_picture else _events(schema)
    responses = {"200": {"description": "The model's answer", "content": answer}} | errors(
        400, 406, 413, 415, 422, 502, 503, 504
    )
    told = {
        "parameters": [_header(DEADLINE_HEADER, "In how many seconds the answer is of use; decimals are fine")],
        "requestBody": {"required": True, "content": content},
        "responses": responses,
    }
    return told if endpoint.jobs is None else with_jobs(told)


def with_jobs(operation: dict[str, Any]) -> dict[str, Any]:
    """The same for an endpoint whose requests may become background jobs."""
    parameters = [
        *operation["parameters"],
        _header("Prefer", "`respond-async`: the answer is 202 and a background job (RFC 7240)"),
        _header("Idempotency-Key", "Requests with the same key and body are run once"),
        _header("Webhook-URL", "Where to tell that the job is over, if the server sends webhooks"),
    ]
    location = {"description": "The job's path", "schema": {"type": "string"}}
    accepted = {
        "description": "The job that was made of the request",
        "headers": {"Location": location, "Preference-Applied": {"schema": {"type": "string"}}},
        "content": {content_negotiation.JSON: {"schema": {"$ref": _REF.format(model="JobView")}}},
    }
    responses = {**operation["responses"], "202": accepted, **errors(429)}
    return {**operation, "parameters": parameters, "responses": responses}


def _header(name: str, meaning: str) -> dict[str, Any]:
    return {"name": name, "in": "header", "required": False, "description": meaning, "schema": {"type": "string"}}


def describe_operation() -> dict[str, Any]:
    """The operation object of `GET …/describe`."""
    answer = {content_negotiation.JSON: {"schema": {"type": "object", "additionalProperties": True}}}
    told = {"200": {"description": "What the model says", "content": answer}}
    return {"responses": {**told, **_errors({404: "The model does not describe itself"}), **errors(502, 503, 504)}}


def job_events() -> dict[int | str, dict[str, Any]]:
    """The response objects of a job's events."""
    told: dict[int | str, dict[str, Any]] = {
        "200": {
            "description": "The endpoint's events",
            "content": {content_negotiation.EVENTS: _events({"type": "object"})},
        }
    }
    return {**told, **errors(404, 410, 503)}


def job_result() -> dict[int | str, dict[str, Any]]:
    """The response objects of a job's answer; one that failed has its endpoint's error."""
    content: dict[str, Any] = {content_negotiation.JSON: {"schema": {"type": "object"}}}
    content |= {each: {"schema": {"type": "string", "format": "binary"}} for each in content_negotiation.PICTURES}
    told: dict[int | str, dict[str, Any]] = {
        "200": {"description": "The answer, as the job's endpoint gives it", "content": content}
    }
    return {**told, **errors(404, 406, 409, 410, 422, 502, 503, 504)}


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The response objects of these statuses."""
    return _errors({status: _ERRORS[status] for status in statuses})


def _errors(meanings: Mapping[int, str]) -> dict[int | str, dict[str, Any]]:
    problem = {problem_details.MEDIA_TYPE: {"schema": {"$ref": _REF.format(model="Problem")}}}
    return {str(status): {"description": meaning, "content": problem} for status, meaning in meanings.items()}


# What a `queued` event holds while its request waits for a slot; later ones are empty.
QUEUED_DATA: dict[str, Any] = {
    "type": "object",
    "properties": {"position": {"type": "integer", "minimum": 1}, "estimated_wait_s": {"type": "number"}},
}


def _events(completed: dict[str, Any]) -> dict[str, Any]:
    """The media type object of the events; `x-events` says what the `data` of each holds, which OpenAPI 3.1 cannot."""
    progress = {
        "type": "object",
        "properties": {
            "step": {"type": "integer"},
            "num_steps": {"type": "integer"},
            "preview": {"type": "string", "contentEncoding": "base64", "contentMediaType": "image/webp"},
        },
    }
    return {
        "schema": {
            "type": "string",
            "description": "Server-sent events: `queued`, then `progress` for the steps, then `completed` with the "
            "JSON answer, or `error` with the problem object. The data of each is JSON.",
        },
        "x-events": {
            QUEUED: QUEUED_DATA,
            "progress": progress,
            "completed": completed,
            "error": {"$ref": _REF.format(model="Problem")},
        },
        "example": 'event: progress\ndata: {"step":3,"num_steps":12}\n\n',
    }


def request_body(*media_types: str, model: type[BaseModel]) -> dict[str, Any]:
    """The part of an operation object that says what may be sent; `components` must know the model."""
    by_type = {
        validation.JSON: {"schema": {"$ref": _REF.format(model=model.__name__)}},
        validation.FORM: {"schema": _form_schema(model)},
    }
    return {"requestBody": {"required": True, "content": {each: by_type[each] for each in media_types}}}


def components(endpoints: Iterable[InferEndpoint], others: Iterable[type[BaseModel]] = ()) -> dict[str, Any]:
    """The schemas that `operation` points to, and those of other requests' bodies."""
    pairs: list[tuple[type[BaseModel], Any]] = [(each, "validation") for each in others]
    for endpoint in endpoints:
        pairs += [(endpoint.request_model, "validation"), (endpoint.response_model, "serialization")]
    _, schemas = models_json_schema(pairs, ref_template=_REF)
    return {"Problem": problem_details.SCHEMA, **schemas.get("$defs", {})}


def _form_schema(request: type[BaseModel]) -> dict[str, Any]:
    """The same fields as a form has them: a picture is a file."""
    schema = request.model_json_schema(ref_template=_REF)
    for name, field in request.model_fields.items():
        if images.is_image(field.metadata):
            callers = callers_name(name, field)
            schema["properties"][callers] = {"type": "string", "format": "binary", "title": callers.title()}
    return schema
