# SPDX-License-Identifier: Apache-2.0
"""Turns errors into responses: `application/problem+json` (RFC 9457) with a stable `code`, or another API's format."""

import http
import math
from collections.abc import Callable, Coroutine
from dataclasses import asdict
from time import perf_counter
from typing import Any

import orjson
from fastapi.exceptions import RequestValidationError
from pydantic_core import ErrorDetails
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from fastapi_triton.core import wrong_values
from fastapi_triton.core.context import REQUEST_ID_HEADER, current_request_id
from fastapi_triton.core.errors import (
    MAX_PROBLEMS,
    ClientDisconnectedError,
    FastAPITritonError,
    FieldProblem,
    InvalidRequestError,
    MethodNotAllowedError,
    NotFoundError,
    UnauthorizedError,
    pointer,
    shown,
)
from fastapi_triton.core.paths import is_below, route_path
from fastapi_triton.core.request_record import current_record, record_error

_PARTS = {"query": "query string", "header": "headers", "cookie": "cookies"}

# Makes an error's response in the format of one API.
ErrorFormat = Callable[[FastAPITritonError], Response]

MEDIA_TYPE = "application/problem+json"

# The schema of every error's body, for the OpenAPI document.
SCHEMA: dict[str, Any] = {
    "type": "object",
    "title": "Problem",
    "description": "RFC 9457. `code` is stable; `errors` lists the problems of fields.",
    "required": ["type", "title", "status", "code", "detail", "request_id"],
    "properties": {
        "type": {"type": "string", "const": "about:blank"},
        "title": {"type": "string", "examples": ["Unprocessable Content"]},
        "status": {"type": "integer", "examples": [422]},
        "code": {"type": "string", "examples": ["missing_field"]},
        "detail": {"type": "string", "examples": ["`image` is required, but missing."]},
        "request_id": {"type": "string"},
        "retry_after_s": {"type": "integer", "description": "Only in `error` events, which have no `Retry-After`."},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["pointer", "code", "detail"],
                "properties": {
                    "pointer": {"type": "string", "examples": ["#/image"]},
                    "code": {"type": "string"},
                    "detail": {"type": "string"},
                },
            },
        },
    },
}


def body(error: FastAPITritonError) -> bytes:
    """An error as a JSON object."""
    return orjson.dumps(_members(error))


def event_data(error: FastAPITritonError) -> str:
    """The error as the data of a stream's last event, which has no headers of its own."""
    members = _members(error)
    if error.retry_after_s is not None:
        members["retry_after_s"] = math.ceil(error.retry_after_s)
    return orjson.dumps(members).decode()


def _members(error: FastAPITritonError) -> dict[str, Any]:
    members: dict[str, Any] = {
        "type": "about:blank",
        "title": http.HTTPStatus(error.status).phrase,
        "status": error.status,
        "code": error.code,
        "detail": error.detail,
        "request_id": current_request_id.get(),
    }
    if error.problems:
        members["errors"] = [asdict(problem) for problem in error.problems]
    return members


def headers(error: FastAPITritonError) -> dict[str, str]:
    """The headers of the error's response, in every format."""
    result = {
        REQUEST_ID_HEADER: current_request_id.get()
    }  # the response to an unexpected exception passes no middleware
    if error.retry_after_s is not None:
        result["Retry-After"] = str(math.ceil(error.retry_after_s))
    if isinstance(error, UnauthorizedError):
        result["WWW-Authenticate"] = ", ".join(error.challenges)
    if error.status in (408, 413):
        result["Connection"] = "close"  # the rest of the body is not read
    return result


def response(error: FastAPITritonError, /, **members: str) -> Response:
    """The error as `application/problem+json`, with further members that an API's clients expect."""
    return Response(orjson.dumps(_members(error) | members), error.status, headers(error), MEDIA_TYPE)


def set_error_format(app: Starlette, prefix: str, form: ErrorFormat) -> None:
    """Set the format of errors for paths below this prefix."""
    app.state.error_forms = {**getattr(app.state, "error_forms", {}), prefix: form}


def error_response(scope: Scope, error: FastAPITritonError) -> Response:
    """The error in the format of its path's API. For middleware, whose errors do not reach exception handlers."""
    record_error(error)
    path = route_path(scope)
    forms: dict[str, ErrorFormat] = getattr(scope["app"].state, "error_forms", {})
    form = next((form for prefix, form in forms.items() if is_below(path, prefix)), response)
    return form(error)


async def send_error(error: FastAPITritonError, scope: Scope, receive: Receive, send: Send) -> None:
    """Respond with the error, from middleware. A WebSocket is closed before it is accepted: the server sends 403."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})
    else:
        await error_response(scope, error)(scope, receive, send)


async def _on_error(request: Request, error: FastAPITritonError) -> Response:
    if isinstance(error, ClientDisconnectedError):
        record_error(error)
        return Response(status_code=error.status)  # not sent: the connection is closed
    return error_response(request.scope, error)


async def _on_disconnect(request: Request, _: ClientDisconnect) -> Response:
    """Starlette's own error, raised when an endpoint reads the body from `Request`."""
    return await _on_error(request, ClientDisconnectedError("The client disconnected before its request was complete."))


async def _on_http_exception(request: Request, error: HTTPException) -> Response:
    """FastAPI's HTTP errors: an unknown route, a wrong method, or an `HTTPException` of a user's endpoint."""
    if error.status_code == 404 and error.detail == "Not Found":
        detail = f"There is no route {shown(request.url.path)}. /docs lists all routes."
        result = error_response(request.scope, NotFoundError(detail))
    elif error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
        supported = " and ".join(sorted(allowed.split(", ")))
        detail = f"{shown(request.url.path)} supports {supported}, not {shown(request.method)}."
        result = error_response(request.scope, MethodNotAllowedError(detail))
    else:
        code = http.HTTPStatus(error.status_code).phrase.lower().replace(" ", "_")

        class UserError(FastAPITritonError, status=error.status_code, code=code):
            """The error that the endpoint raised."""

        result = error_response(request.scope, UserError(str(error.detail)))
    result.headers.update(error.headers or {})
    return result


async def _on_invalid_request(request: Request, error: RequestValidationError) -> Response:
    """A plain FastAPI endpoint of the app rejected its request."""
    problems = [
        FieldProblem(pointer(each["loc"][1:]), "invalid_value", _sentence(each))
        for each in error.errors()[:MAX_PROBLEMS]
    ]
    detail = " ".join(each.detail for each in problems)
    return error_response(request.scope, InvalidRequestError(detail, problems=problems))


def _sentence(details: ErrorDetails) -> str:
    """The sentence about a problem that FastAPI found. Values of headers and cookies may be secret."""
    where, *location = details["loc"]
    name = ".".join(shown(str(part)) for part in location)
    subject = f"`{name}` in the {_PARTS.get(str(where), where)}" if name else f"The {where}"
    if details["type"] == "missing":
        return f"{subject} is required, but missing."
    if where in ("header", "cookie"):
        details = ErrorDetails(**{**details, "input": ...})
    return wrong_values.sentence(subject, details)


async def _on_unexpected(request: Request, _: Exception) -> Response:
    # uvicorn logs the traceback after this response, under the request id that the client gets.
    result = error_response(
        request.scope,
        FastAPITritonError("The frontend failed with an internal error. Search its log for this request id."),
    )
    result.headers["Server-Timing"] = (
        current_record.get().server_timing(perf_counter()).decode()
    )  # no middleware adds it here
    return result


HANDLERS: dict[int | type[Exception], Callable[[Request, Any], Coroutine[Any, Any, Response]]] = {
    FastAPITritonError: _on_error,
    ClientDisconnect: _on_disconnect,
    HTTPException: _on_http_exception,
    RequestValidationError: _on_invalid_request,
    Exception: _on_unexpected,
}
