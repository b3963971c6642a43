# SPDX-License-Identifier: Apache-2.0
"""The parts of the OpenAPI document that all API families share: bodies, errors, events, jobs."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from fastapi_triton.core import problem_details
from fastapi_triton.endpoints import content_negotiation, images, request_example
from fastapi_triton.endpoints.fields import client_name
from fastapi_triton.endpoints.request_body import validation
from fastapi_triton.endpoints.sse import QUEUED

REF = "#/components/schemas/{model}"
# The media type object of a picture's bytes.
BINARY = {"schema": {"type": "string", "format": "binary"}}
_ERRORS = {
    400: "The body cannot be read",
    403: "The caller may not do this",
    404: "There is no such model, version, endpoint or job",
    406: "The client accepts none of the endpoint's media types",
    409: "The request conflicts with the current state",
    410: "The resource existed, but has been deleted",
    413: "The body or a picture exceeds its limit",
    415: "The body is neither JSON nor a form",
    422: "The body can be read, but is not valid; `errors` names the fields",
    429: "The caller has reached its limit",
    502: "The model failed",
    503: "The server is overloaded, or the model is not ready; see Retry-After",
    504: "There was no response before the deadline",
}


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The response objects of these statuses."""
    return described_errors({status: _ERRORS[status] for status in statuses})


def responses(description: str, content: dict[str, Any], *statuses: int) -> dict[int | str, dict[str, Any]]:
    """The response objects of a success, and of the errors with these statuses."""
    return {"200": {"description": description, "content": content}, **errors(*statuses)}


def described_errors(meanings: Mapping[int, str]) -> dict[int | str, dict[str, Any]]:
    """The response objects of errors with their own descriptions."""
    problem = {problem_details.MEDIA_TYPE: {"schema": {"$ref": REF.format(model="Problem")}}}
    return {str(status): {"description": meaning, "content": problem} for status, meaning in meanings.items()}


def request_body(*media_types: str, model: type[BaseModel]) -> dict[str, Any]:
    """The request body of an operation object. `components` must contain the model's schema."""
    example = request_example.of_model(model)
    examples = {} if example is None else {"example": example}
    content = {each: {"schema": _body_schema(each, model, example or {}), **examples} for each in media_types}
    return {"requestBody": {"required": True, "content": content}}


def _body_schema(media_type: str, model: type[BaseModel], example: Mapping[str, Any]) -> dict[str, Any]:
    if media_type == validation.FORM:
        return _form_schema(model, example)
    return {"$ref": REF.format(model=model.__name__)}


def _form_schema(request: type[BaseModel], example: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a form, where a picture is a file, nothing is null, and lists and objects cannot be sent."""
    schema = request.model_json_schema(ref_template=REF)
    fields = {name: _not_null(described) for name, described in schema["properties"].items()}
    schema["properties"] = {
        name: described | ({"example": example[name]} if name in example else {})
        for name, described in fields.items()
        if not _is_composite(described, schema.get("$defs", {}))
    }
    for name, field in request.model_fields.items():
        if images.holds_picture(field):
            sent = client_name(name, field)
            schema["properties"][sent] = {"type": "string", "format": "binary", "title": sent.title()}
    return schema


def _is_composite(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> bool:
    name = schema.get("$ref", "").rpartition("/")[2]
    return definitions.get(name, schema).get("type") in ("array", "object")


def _not_null(schema: dict[str, Any]) -> dict[str, Any]:
    choices = [each for each in schema.get("anyOf", ()) if each != {"type": "null"}]
    rest = {key: value for key, value in schema.items() if key != "anyOf" and (key, value) != ("default", None)}
    return {**choices[0], **rest} if len(choices) == 1 else {**rest, **({"anyOf": choices} if choices else {})}


def with_jobs(operation: dict[str, Any]) -> dict[str, Any]:
    """The operation of an endpoint whose requests may become background jobs."""
    parameters = [
        *operation["parameters"],
        header("Prefer", "`respond-async` makes the request a background job; the response is 202 (RFC 7240)"),
        header("Idempotency-Key", "Requests with the same key and body run only once"),
        header("Webhook-URL", "The URL that gets a request when the job has ended, if the server sends webhooks"),
    ]
    location = {"description": "The job's path", "schema": {"type": "string"}}
    accepted = {
        "description": "The background job of the request",
        "headers": {"Location": location, "Preference-Applied": {"schema": {"type": "string"}}},
        "content": {content_negotiation.JSON: {"schema": {"$ref": REF.format(model="JobView")}}},
    }
    with_accepted = {**operation["responses"], "202": accepted, **errors(429)}
    return {**operation, "parameters": parameters, "responses": with_accepted}


def header(name: str, meaning: str) -> dict[str, Any]:
    """The parameter object of an optional request header."""
    return {"name": name, "in": "header", "required": False, "description": meaning, "schema": {"type": "string"}}


# The data of a `queued` event, while the request waits for a slot or in the model's queue. It may be empty.
QUEUED_DATA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "position": {"type": "integer", "minimum": 1, "description": "1 is next"},
        "estimated_wait_s": {"type": "number", "description": "seconds until the model begins"},
        "estimated_total_s": {"type": "number", "description": "seconds until the response"},
    },
}


def events(completed: dict[str, Any]) -> dict[str, Any]:
    """The media type object of the events. `x-events` has the schema of each one's `data`; OpenAPI 3.1 lacks that."""
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
            "JSON response, or `error` with the problem object. The data of each is JSON.",
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
    return responses("The endpoint's events", content, 404, 410, 503)


def job_result() -> dict[int | str, dict[str, Any]]:
    """The response objects of a job's result. A failed job returns its endpoint's error."""
    content: dict[str, Any] = {content_negotiation.JSON: {"schema": {"type": "object"}}}
    content |= dict.fromkeys(content_negotiation.PICTURES, BINARY)
    return responses("The response of the job's endpoint", content, 404, 406, 409, 410, 422, 502, 503, 504)
