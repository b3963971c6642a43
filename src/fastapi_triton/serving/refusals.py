# SPDX-License-Identifier: Apache-2.0
"""Responses that a connection sends without the app: to unreadable requests, and over the connection limit."""

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

# Of a request's line, header fields and trailer fields together.
MAX_HEAD_BYTES = 64 * 1024
MAX_HEADERS = 256
# llhttp's error for `PRI * HTTP/2.0`.
_HTTP_2_PREFACE = "Pause on PRI/Upgrade"


def closing_response(error: FastAPITritonError, defaults: list[tuple[bytes, bytes]]) -> bytes:
    """A whole response that reports the error, after which the connection closes."""
    context = copy_context()
    context.run(current_request_id.set, secrets.token_hex(16))
    answer = context.run(problem_details.response, error)
    others = [field for field in answer.raw_headers if field[0] != b"connection"]
    fields = [b"%b: %b\r\n" % field for field in (*defaults, *others, (b"connection", b"close"))]
    return b"".join((STATUS_LINE[answer.status_code], *fields, b"\r\n", answer.body))


def reason(error: httptools.HttpParserError) -> FastAPITritonError:
    """Why a request cannot be parsed."""
    if isinstance(error.__context__, FastAPITritonError):
        return error.__context__
    logger.debug("a request cannot be read: %r", error.__context__ or error)
    if str(error) == _HTTP_2_PREFACE:
        return UnreadableRequestError("This port does not speak HTTP/2. Send HTTP/1.1.")
    return UnreadableRequestError("This is not a valid HTTP/1.1 request.")


def head_too_large() -> HeadTooLargeError:
    """The request line and fields are too long."""
    return HeadTooLargeError(f"The request's line, header and trailer fields are over {MAX_HEAD_BYTES:,} bytes.")


def too_many_headers() -> HeadTooLargeError:
    """There are too many fields."""
    return HeadTooLargeError(f"The request has more than {MAX_HEADERS} header fields.")


def too_much_framing() -> UnreadableRequestError:
    """A chunked body with hardly any content."""
    return UnreadableRequestError(
        "The chunks of the body are mostly chunk extensions and framing. Send larger chunks, without extensions.",
        code="too_much_framing",
    )


def connections_exhausted() -> OverloadedError:
    """There are more connections than `max_connections`."""
    return OverloadedError("Too many connections are open. Try again later.", retry_after_s=1.0)


def too_many_pipelined() -> OverloadedError:
    """Pipelined requests behind a slow one were dropped."""
    return OverloadedError(
        "Too many requests were pipelined behind a slow one. The requests after this response were not read: send "
        "them again, on another connection.",
        retry_after_s=1.0,
    )


async def too_many_connections(scope: Scope, receive: Receive, send: Send) -> None:
    """The app of connections over the limit."""
    current_request_id.set(secrets.token_hex(16))
    await problem_details.response(connections_exhausted())(scope, receive, send)
