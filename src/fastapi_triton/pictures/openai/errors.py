# SPDX-License-Identifier: Apache-2.0
"""Errors in the format of OpenAI's API: one `error` object, and 400 instead of 422."""

from typing import Any

import orjson
from starlette.responses import Response

from fastapi_triton.core import problem_details
from fastapi_triton.core.errors import FastAPITritonError
from fastapi_triton.endpoints import content_negotiation

# The endpoint's fields → OpenAI's parameters.
_PARAMETERS = {"width": "size", "height": "size", "output_quality": "output_compression"}
_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


def describe(error: FastAPITritonError) -> dict[str, Any]:
    """The `error` object. `param` and `code` are those of the first invalid field."""
    param, code = None, error.code
    if error.problems:
        code = error.problems[0].code
        name = error.problems[0].pointer.removeprefix("#/").split("/")[0].removesuffix("[]")
        param = _PARAMETERS.get(name, name) or None
    is_server_error = error.status >= 500
    return {
        "message": error.detail,
        "type": _TYPES.get(error.status, "server_error" if is_server_error else "invalid_request_error"),
        "param": param,
        "code": code,
    }


def response(error: FastAPITritonError) -> Response:
    """The response for an error."""
    headers = problem_details.headers(error)
    if error.status >= 500 and error.retry_after_s is None:
        # Otherwise OpenAI's clients retry every 5xx, even if the request may have run or will fail again.
        headers["x-should-retry"] = "false"
    status = 400 if error.status == 422 else error.status
    return Response(orjson.dumps({"error": describe(error)}), status, headers, content_negotiation.JSON)


def event_data(error: FastAPITritonError) -> str:
    """The data of the `error` event that ends a stream."""
    return orjson.dumps({"type": "error", "error": describe(error)}).decode()
