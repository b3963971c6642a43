# SPDX-License-Identifier: Apache-2.0
"""The one place where an error becomes HTTP: `application/problem+json` (RFC 9457) with a stable `code`."""

import http
import math
from collections.abc import Callable, Coroutine
from dataclasses import asdict
from time import perf_counter
from typing import Any

import orjson
from fastapi.exceptions import RequestValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

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

# Makes the response of an error, in the format of an API.
ErrorFormat = Callable[[FastAPITritonError], Response]

MEDIA_TYPE = "application/problem+json"

# The schema of every error's body, for the OpenAPI document.
SCHEMA: dict[str, Any] = {
    "type": "object",
    "title": "Problem",
    "description": "RFC 9457. `code` is stable; `errors` says which fields are meant.",
    "required": ["type", "title", "status", "code", "detail", "request_id"],
    "properties": {
        "type": {"type": "string", "const": "about:blank"},
        "title": {"type": "string", "examples": ["Unprocessable Content"]},
        "status": {"type": "integer", "examples": [422]},
        "code": {"type": "string", "examples": ["missing_field"]},
        "detail": {"type": "string", "examples": ["`image` is required, and missing."]},
        "request_id": {"type": "string"},
        "retry_after_s": {"type": "integer", "description": "In an `error` event, in place of `Retry-After`."},
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
    """The same as the data of the last event of a stream, which has no headers of its own."""
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
    """The headers of every response with this error, in any format."""
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


def response(error: FastAPITritonError) -> Response:
    """The error as `application/problem+json`."""
    return Response(body(error), error.status, headers(error), MEDIA_TYPE)


def set_error_format(app: Starlette, prefix: str, form: ErrorFormat) -> None:
    """Have the errors of the paths below this prefix in another API's format."""
    app.state.error_forms = {**getattr(app.state, "error_forms", {}), prefix: form}


def error_response(scope: Scope, error: FastAPITritonError) -> Response:
    """The error in the format of its path's API. For middleware, whose errors no exception handler gets."""
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
        return Response(status_code=error.status)  # sent to nobody: the connection is closed
    return error_response(request.scope, error)


async def _on_disconnect(request: Request, _: ClientDisconnect) -> Response:
    """Starlette's own error, where an endpoint reads the body by `Request`."""
    return await _on_error(request, ClientDisconnectedError("The caller left before its request was whole."))


async def _on_http_exception(request: Request, error: HTTPException) -> Response:
    """FastAPI's own HTTP errors: an unknown route, a wrong method, or what a user's endpoint raised."""
    if error.status_code == 404 and error.detail == "Not Found":
        detail = f"There is no route {shown(request.url.path)}. /docs lists them all."
        result = error_response(request.scope, NotFoundError(detail))
    elif error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
        detail = f"{shown(request.url.path)} takes {allowed}, not {shown(request.method)}."
        result = error_response(request.scope, MethodNotAllowedError(detail))
    else:
        code = http.HTTPStatus(error.status_code).phrase.lower().replace(" ", "_")

        class UserError(FastAPITritonError, status=error.status_code, code=code):
            """What the endpoint raised."""

        result = error_response(request.scope, UserError(str(error.detail)))
    result.headers.update(error.headers or {})
    return result


async def _on_invalid_request(request: Request, error: RequestValidationError) -> Response:
    """A plain FastAPI endpoint of the app refused its request."""
    problems = [
        FieldProblem(pointer(each["loc"][1:]), "invalid_value", each["msg"]) for each in error.errors()[:MAX_PROBLEMS]
    ]
    return error_response(
        request.scope, InvalidRequestError("The request does not fit the endpoint.", problems=problems)
    )


async def _on_unexpected(request: Request, _: Exception) -> Response:
    # uvicorn logs the traceback after this response, under the request id that the client gets.
    result = error_response(
        request.scope,
        FastAPITritonError("The frontend failed on this request. The log has the reason under this request's id."),
    )
    result.headers["Server-Timing"] = current_record.get().server_timing(perf_counter()).decode()  # as with the id
    return result


HANDLERS: dict[int | type[Exception], Callable[[Request, Any], Coroutine[Any, Any, Response]]] = {
    FastAPITritonError: _on_error,
    ClientDisconnect: _on_disconnect,
    HTTPException: _on_http_exception,
    RequestValidationError: _on_invalid_request,
    Exception: _on_unexpected,
}
