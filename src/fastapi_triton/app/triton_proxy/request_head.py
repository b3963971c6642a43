# SPDX-License-Identifier: Apache-2.0
"""Builds the head of a `/v2` request to Triton from the client's headers, checked: some values kill Triton 2.51."""

import re

from fastapi_triton.core.context import current_request_id
from fastapi_triton.core.errors import UnreadableRequestError, shown
from fastapi_triton.core.request_record import current_record, request_trace_headers
from fastapi_triton.triton.transport.connection import Headers

HEADER_LENGTH = b"inference-header-content-length"
_ACCEPT_ENCODING = b"accept-encoding"
_TRACE = (b"traceparent", b"tracestate")
# The headers that Triton reads.
PASSED = frozenset(
    (
        *(b"accept", _ACCEPT_ENCODING, b"content-type", b"endpoint-load-metrics-format", b"triton_grpc_error"),
        *(HEADER_LENGTH, *_TRACE),
    )
)
_CODE = "invalid_header"
# RFC 9110 sections 12.5.3 and 12.4.2: `gzip;q=0.5, identity`. A weight like `1e999` kills Triton. Some clients send
# more than three decimals, or `.5`.
_CODING = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+(?:[ \t]*;[ \t]*[qQ]=(?:0?\.\d{1,6}|0\.?|1(?:\.0{0,6})?))?[ \t]*"
_CODINGS = re.compile(rb"[ \t]*(?:" + _CODING + rb")?(?:,[ \t]*(?:" + _CODING + rb")?)*")
_MAX_CODINGS_BYTES = 256
_LENGTH = re.compile(rb"\d{1,18}")
# Triton keeps these values in memory as long as the request.
_MAX_VALUE_BYTES = 1024


def passed_lines(headers: Headers, names: frozenset[bytes], *, is_traced: bool) -> bytes:
    """The lines of the headers that go to Triton unchanged: those in `names`.

    A request that the frontend traces goes without the client's trace headers: `proxied` adds the frontend's own.

    Raises:
        UnreadableRequestError: one of them is malformed.
    """
    lines: list[bytes] = []
    for name, value in headers:
        if name not in names or (is_traced and name in _TRACE):
            continue
        if name == _ACCEPT_ENCODING:
            if len(value) > _MAX_CODINGS_BYTES or not _CODINGS.fullmatch(value):
                raise _malformed(name, value, "Send a list like `gzip;q=0.5, identity`.")
        elif len(value) > _MAX_VALUE_BYTES:
            raise _malformed(name, value, f"It must have at most {_MAX_VALUE_BYTES:,} bytes.")
        lines += (name, b": ", value, b"\r\n")
    return b"".join(lines)


def proxied(method: str, target: bytes, lines: bytes, num_body_bytes: int) -> bytes:
    """The head of a request to Triton: `lines`, which are complete header lines, and the request's id and trace."""
    trace_headers = request_trace_headers() if current_record.get().is_traced else ()
    parts = [
        method.encode() + b" " + target + b" HTTP/1.1\r\n",
        lines,
        *(f"{name}: {value}\r\n".encode() for name, value in trace_headers),
        b"x-request-id: " + current_request_id.get().encode() + b"\r\n",
    ]
    if num_body_bytes or method == "POST":
        parts.append(b"content-length: %d\r\n" % num_body_bytes)
    return b"".join((*parts, b"\r\n"))


def json_length(headers: Headers) -> int | None:
    """The number of bytes of JSON in the body, from `Inference-Header-Content-Length`; None: all of it is JSON.

    Raises:
        UnreadableRequestError: the header is not a number, or there are two.
    """
    length: int | None = None
    for name, value in headers:
        if name == HEADER_LENGTH:
            if length is not None or not _LENGTH.fullmatch(value):
                raise _malformed(name, value, "Send it once, with the number of bytes of JSON in the body.")
            length = int(value)
    return length


def _malformed(name: bytes, value: bytes, advice: str) -> UnreadableRequestError:
    repeated = shown(value.decode("latin-1"))
    return UnreadableRequestError(f"The header {name.decode('latin-1')} is `{repeated}`. {advice}", code=_CODE)
