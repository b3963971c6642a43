# SPDX-License-Identifier: Apache-2.0
"""The parts of the OpenAPI document that all API families share: bodies, errors, events, jobs."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from fastapi_triton.core import problem_details
from fastapi_triton.endpoints import content_negotiation, images
from fastapi_triton.endpoints.fields import callers_name
from fastapi_triton.endpoints.request_body import validation
from fastapi_triton.endpoints.sse import QUEUED

REF = "#/components/schemas/{model}"
# The media type object of a picture's bytes.
BINARY = {"schema": {"type": "string", "format": "binary"}}
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


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The response objects of these statuses."""
    return described_errors({status: _ERRORS[status] for status in statuses})


def answered(description: str, content: dict[str, Any], *statuses: int) -> dict[int | str, dict[str, Any]]:
    """The response objects of an answer, and of the errors that may come instead."""
    return {"200": {"description": description, "content": content}, **errors(*statuses)}


def described_errors(meanings: Mapping[int, str]) -> dict[int | str, dict[str, Any]]:
    """The response objects of statuses with descriptions of their own."""
    problem = {problem_details.MEDIA_TYPE: {"schema": {"$ref": REF.format(model="Problem")}}}
    return {str(status): {"description": meaning, "content": problem} for status, meaning in meanings.items()}


def request_body(*media_types: str, model: type[BaseModel]) -> dict[str, Any]:
    """The part of an operation object that says what may be sent; `components` must know the model."""
    by_type = {
        validation.JSON: {"schema": {"$ref": REF.format(model=model.__name__)}},
        validation.FORM: {"schema": _form_schema(model)},
    }
    return {"requestBody": {"required": True, "content": {each: by_type[each] for each in media_types}}}


def _form_schema(request: type[BaseModel]) -> dict[str, Any]:
    """The same fields as a form has them: a picture is a file."""
    schema = request.model_json_schema(ref_template=REF)
    for name, field in request.model_fields.items():
        if images.is_image(field.metadata):
            callers = callers_name(name, field)
            schema["properties"][callers] = {"type": "string", "format": "binary", "title": callers.title()}
    return schema


def with_jobs(operation: dict[str, Any]) -> dict[str, Any]:
    """The same for an endpoint whose requests may become background jobs."""
    parameters = [
        *operation["parameters"],
        header("Prefer", "`respond-async`: the answer is 202 and a background job (RFC 7240)"),
        header("Idempotency-Key", "Requests with the same key and body are run once"),
        header("Webhook-URL", "Where to tell that the job is over, if the server sends webhooks"),
    ]
    location = {"description": "The job's path", "schema": {"type": "string"}}
    accepted = {
        "description": "The job that was made of the request",
        "headers": {"Location": location, "Preference-Applied": {"schema": {"type": "string"}}},
        "content": {content_negotiation.JSON: {"schema": {"$ref": REF.format(model="JobView")}}},
    }
    responses = {**operation["responses"], "202": accepted, **errors(429)}
    return {**operation, "parameters": parameters, "responses": responses}


def header(name: str, meaning: str) -> dict[str, Any]:
    """The parameter object of an optional request header."""
    return {"name": name, "in": "header", "required": False, "description": meaning, "schema": {"type": "string"}}


# What a `queued` event holds while its request waits for a slot; later ones are empty.
QUEUED_DATA: dict[str, Any] = {
    "type": "object",
    "properties": {"position": {"type": "integer", "minimum": 1}, "estimated_wait_s": {"type": "number"}},
}


def events(completed: dict[str, Any]) -> dict[str, Any]:
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
            "error": {"$ref": REF.format(model="Problem")},
        },
        "example": 'event: progress\ndata: {"step":3,"num_steps":12}\n\n',
    }


def job_events() -> dict[int | str, dict[str, Any]]:
    """The response objects of a job's events."""
    content = {content_negotiation.EVENTS: events({"type": "object"})}
    return answered("The endpoint's events", content, 404, 410, 503)


def job_result() -> dict[int | str, dict[str, Any]]:
    """The response objects of a job's answer; one that failed has its endpoint's error."""
    content: dict[str, Any] = {content_negotiation.JSON: {"schema": {"type": "object"}}}
    content |= dict.fromkeys(content_negotiation.PICTURES, BINARY)
    return answered("The answer, as the job's endpoint gives it", content, 404, 406, 409, 410, 422, 502, 503, 504)
