# SPDX-License-Identifier: Apache-2.0
"""`/v2`: Triton's own protocol through the frontend, byte for byte both ways, under the limits that all others have."""

import asyncio
import logging
import math
from types import TracebackType
from typing import Self

import orjson
from starlette.types import Receive, Scope, Send

from fastapi_triton import drain, v2_call
from fastapi_triton.admission import Admission
from fastapi_triton.disconnects import unless_caller_leaves
from fastapi_triton.errors import (
    CallerLeftError,
    DeadlineExceededError,
    FastAPITritonError,
    MethodNotAllowedError,
    RequestTooSlowError,
    TooLargeError,
    UnreadableRequestError,
)
from fastapi_triton.middleware.request_id import current_request_id
from fastapi_triton.settings import Settings
from fastapi_triton.triton.connections import Connection, Connections, Headers
from fastapi_triton.v2_call import Call

logger = logging.getLogger(__name__)

# Questions have places of their own, so that probes and statistics are answered while every place in flight is taken.
MAX_QUESTIONS = 64
# RFC 9110 section 7.6.1, and what concerns one connection alone.
_HOP_BY_HOP = frozenset(
    (
        *(b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection"),
        *(b"te", b"trailer", b"transfer-encoding", b"upgrade"),
    )
)
# And what the frontend says itself. A caller's credentials are the frontend's to check, and go no further.
_NOT_TO_TRITON = _HOP_BY_HOP | {b"host", b"expect", b"content-length", b"x-request-id", b"authorization", b"cookie"}
_NOT_TO_CALLER = _HOP_BY_HOP | {b"date", b"server"}


class Passage:
    """An ASGI app for everything under `/v2`; used inside `async with`.

    An inference request takes its place in flight when the last of its body is here, and gives it back when Triton's
    answer begins, or, of a stream, ends: slow callers hold no places. One that has wholly gone to Triton keeps its
    place when its caller leaves, since Triton goes on working; everything else is closed then.
    """

    def __init__(self, triton_url: str, *, admission: Admission, settings: Settings) -> None:
        self._connections = Connections(triton_url, connect_timeout_s=settings.connect_timeout_s)
        self._inferences = admission
        self._questions = Admission(MAX_QUESTIONS)
        self._timeout_s = settings.request_timeout_s
        self._is_administration_allowed = settings.v2_admin

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self._connections.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = _Answer(send)
        try:
            path = _path(scope)
            call = v2_call.read(scope["method"], path, is_administration_allowed=self._is_administration_allowed)
            if call in (Call.INFERENCE, Call.STREAM):
                drain.of(scope).require_open()
            async with asyncio.timeout(self._timeout_s):
                await self._pass(call, path, scope, receive, answer)
        except CallerLeftError:
            logger.info("the caller left")
        except TimeoutError:
            await answer.refuse(
                DeadlineExceededError(
                    f"Triton gave no answer within {self._timeout_s:g} s. It may still be working on the request."
                    if answer.is_asked
                    else f"The request's body had not come whole within {self._timeout_s:g} s."
                )
            )
        except FastAPITritonError as error:
            await answer.refuse(error)
        except asyncio.CancelledError as cancelled:
            reason = drain.of(scope).explain(cancelled)
            if not isinstance(reason, FastAPITritonError):
                raise
            await answer.refuse(reason)

    async def _pass(self, call: Call, path: bytes, scope: Scope, receive: Receive, answer: "_Answer") -> None:
        admission = self._inferences if call in (Call.INFERENCE, Call.STREAM) else self._questions
        admission.require_places()
        request = _Request(path, scope, self._connections.host_headers)
        async with self._connections.connection() as connection:
            connection.start(request.head, is_chunked=request.is_chunked)
            last = await _upload(connection, receive) if request.has_body else ()
            if not connection.is_answered:
                with admission.slot():
                    connection.finish(*last)
                    answer.is_asked = True
                    if call is Call.STREAM:
                        await unless_caller_leaves(receive, answer.relay(connection))
                        return
                    await connection.head()
            await answer.relay(connection)


async def _upload(connection: Connection, receive: Receive) -> tuple[bytes, ...]:
    """Send the body as it comes, all but its end, which is given back: with it Triton would begin to work."""
    held = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise CallerLeftError("The caller left before its request was whole.")
        piece = message.get("body", b"")
        if not message.get("more_body", False):
            return held, piece
        if connection.is_answered:
            return ()
        if piece:
            if held:
                await connection.write(held)
            held = piece


class _Request:
    """A request's head as it goes to Triton."""

    def __init__(self, path: bytes, scope: Scope, host_headers: bytes) -> None:
        headers: Headers = scope["headers"]
        dropped: frozenset[bytes] = _NOT_TO_TRITON
        for name, value in headers:
            if name == b"connection":  # what it names is between the caller and us
                dropped |= {each.strip().lower() for each in value.split(b",")}
        lengths = {value for name, value in headers if name == b"content-length"}
        self.is_chunked = any(name == b"transfer-encoding" for name, _ in headers)
        self.has_body = self.is_chunked or bool(lengths)
        if len(lengths) > 1 or (self.is_chunked and lengths):
            raise UnreadableRequestError("The request says its length in more than one way.")
        query = scope.get("query_string", b"")
        lines = [
            scope["method"].encode() + b" " + path + (b"?" + query if query else b"") + b" HTTP/1.1\r\n",
            host_headers,
            *(name + b": " + value + b"\r\n" for name, value in headers if name not in dropped),
            b"x-request-id: " + current_request_id.get().encode() + b"\r\n",
        ]
        if self.is_chunked:
            lines.append(b"transfer-encoding: chunked\r\n")
        elif lengths:
            lines.append(b"content-length: " + lengths.pop() + b"\r\n")
        elif scope["method"] == "POST":
            lines.append(b"content-length: 0\r\n")
        self.head = b"".join((*lines, b"\r\n"))


class _Answer:
    """What the caller gets: Triton's answer, or why there is none."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._is_started = False
        self.is_asked = False  # whether Triton has the whole request

    async def relay(self, connection: Connection) -> None:
        """Pass Triton's answer on as it comes."""
        head = await connection.head()
        headers = [(name, value) for name, value in head.headers if name not in _NOT_TO_CALLER]
        self._is_started = True
        await self._send({"type": "http.response.start", "status": head.status, "headers": headers})
        more_body = True
        while more_body:
            piece, more_body = await connection.read()
            await self._send({"type": "http.response.body", "body": piece, "more_body": more_body})

    async def refuse(self, error: FastAPITritonError) -> None:
        """Tell of an error of ours as tritonclient reads it: `{"error": "…"}`."""
        if self._is_started:
            # The server closes the connection of an answer that is not whole: so the caller sees that it is not.
            logger.warning("the answer was cut off: %s", error.detail)
            return
        told = {"error": error.detail, "code": error.code, "request_id": current_request_id.get()}
        body = orjson.dumps(told)
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        if error.retry_after_s is not None:
            headers.append((b"retry-after", b"%d" % math.ceil(error.retry_after_s)))
        if isinstance(error, MethodNotAllowedError):
            headers.append((b"allow", ", ".join(error.allowed).encode()))
        if isinstance(error, RequestTooSlowError | TooLargeError):
            headers.append((b"connection", b"close"))  # the rest of the body is not read
        await self._send({"type": "http.response.start", "status": error.status, "headers": headers})
        await self._send({"type": "http.response.body", "body": body, "more_body": False})


def _path(scope: Scope) -> bytes:
    """The path as it was sent, less what the app is mounted under."""
    path: bytes = scope["raw_path"]
    return path.removeprefix(scope.get("root_path", "").encode())
