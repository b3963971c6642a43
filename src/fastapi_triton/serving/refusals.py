# SPDX-License-Identifier: Apache-2.0
"""Error responses that a connection sends without the app: for unreadable requests, and over the connection limit."""

import logging
import secrets
from contextvars import copy_context

import httptools
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from fastapi_triton.core import problem_details
from fastapi_triton.core.context import current_request_id
from fastapi_triton.core.errors import FastAPITritonError, HeadTooLargeError, OverloadedError, UnreadableRequestError

logger = logging.getLogger(__name__)

# The limit of the request line, header fields and trailer fields together.
MAX_HEAD_BYTES = 64 * 1024
MAX_HEADERS = 256
# llhttp's error for `PRI * HTTP/2.0`.
_HTTP_2_PREFACE = "Pause on PRI/Upgrade"


def closing_response(error: FastAPITritonError, defaults: list[tuple[bytes, bytes]]) -> bytes:
    """The bytes of an error response that closes the connection."""
    context = copy_context()
    context.run(current_request_id.set, secrets.token_hex(16))
    response = context.run(problem_details.response, error)
    others = [field for field in response.raw_headers if field[0] != b"connection"]
    fields = [b"%b: %b\r\n" % field for field in (*defaults, *others, (b"connection", b"close"))]
    return b"".join((STATUS_LINE[response.status_code], *fields, b"\r\n", response.body))


def reason(error: httptools.HttpParserError) -> FastAPITritonError:
    """The error for a request that cannot be parsed."""
    if isinstance(error.__context__, FastAPITritonError):
        return error.__context__
    logger.debug("a request cannot be parsed, so it is rejected: %r", error.__context__ or error)
    if str(error) == _HTTP_2_PREFACE:
        return UnreadableRequestError("This port does not support HTTP/2. Send HTTP/1.1.")
    return UnreadableRequestError("This is not a valid HTTP/1.1 request.")


def head_too_large() -> HeadTooLargeError:
    """The error for a request line and fields that are too long."""
    return HeadTooLargeError(
        f"The request line, header fields and trailer fields have more than {MAX_HEAD_BYTES:,} bytes. Send fewer or "
        "shorter fields."
    )


def too_many_headers() -> HeadTooLargeError:
    """The error for too many header fields."""
    return HeadTooLargeError(f"The request has more than {MAX_HEADERS} header fields. Send fewer.")


def too_much_framing() -> UnreadableRequestError:
    """The error for a chunked body with hardly any content."""
    return UnreadableRequestError(
        "The chunks of the body are mostly chunk extensions and framing. Send larger chunks, without extensions.",
        code="too_much_framing",
    )


def connections_exhausted() -> OverloadedError:
    """The error for requests on connections beyond `max_connections`."""
    return OverloadedError("Too many connections are open. Try again later.", retry_after_s=1.0)


def too_many_pipelined() -> OverloadedError:
    """The error for pipelined requests that were dropped behind a slow one."""
    return OverloadedError(
        "Too many requests were pipelined behind a slow one. The server did not read the requests after this one: send "
        "them again on another connection.",
        retry_after_s=1.0,
    )


async def too_many_connections(scope: Scope, receive: Receive, send: Send) -> None:
    """An ASGI app that responds to requests on connections beyond the limit."""
    current_request_id.set(secrets.token_hex(16))
    await problem_details.response(connections_exhausted())(scope, receive, send)
