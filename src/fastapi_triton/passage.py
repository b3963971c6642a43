# SPDX-License-Identifier: Apache-2.0
"""`/v2`: Triton's own protocol through the frontend, byte for byte both ways, under the limits that all others have."""

import asyncio
import logging
from enum import Enum
from http import HTTPStatus
from urllib.parse import quote

import orjson
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from fastapi_triton import drain, problems, v2_call
from fastapi_triton.access import scopes
from fastapi_triton.admission import Admission, Admissions
from fastapi_triton.deadlines import remaining_s
from fastapi_triton.disconnects import unless_caller_leaves
from fastapi_triton.errors import (
    CallerLeftError,
    DeadlineExceededError,
    FastAPITritonError,
    MethodNotAllowedError,
    TritonUnavailableError,
    UnreadableRequestError,
)
from fastapi_triton.middleware.request_id import current_request_id
from fastapi_triton.observation import TRITON, Stage, current_observation, note, request_trace_headers
from fastapi_triton.settings import Settings
from fastapi_triton.triton.access import HeaderLines
from fastapi_triton.triton.connection import Connection, Headers
from fastapi_triton.triton.connection_errors import LOST, access_denied
from fastapi_triton.triton.connections import Connections
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
_NOT_TO_TRITON = _HOP_BY_HOP | {b"host", b"expect", b"content-length", b"x-request-id"}
_NOT_TO_TRITON |= {b"authorization", b"x-api-key", b"cookie"}
_TRACE = frozenset((b"traceparent", b"tracestate"))
# The code by which an error of Triton's own is counted: it passes untouched.
FROM_TRITON = "from_triton"
_NOT_TO_CALLER = _HOP_BY_HOP | {b"date", b"server"}


class Passage:
    """An ASGI app for everything under `/v2`, over connections that somebody else opens and closes.

    An inference request takes its place in flight when the last of its body is here, and gives it back when Triton's
    answer begins, or, of a stream, ends: slow callers hold no places. One that has wholly gone to Triton keeps its
    place when its caller leaves, since Triton goes on working; everything else is closed then.
    """

    def __init__(self, connections: Connections, *, admissions: Admissions, settings: Settings) -> None:
        self._connections = connections
        self._admissions = admissions
        self._questions = Admission("/v2", MAX_QUESTIONS)
        self._timeout_s = settings.request_timeout_s
        # Those that Triton has answered for: only their names become labels.
        self._models: set[str] = set()
        self._is_administration_allowed = settings.v2_admin
        self._keeps_running = settings.keep_running_when_caller_leaves

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = _Answer(send, self._models)
        try:
            path = _path(scope)
            call = v2_call.read(scope["method"], path, is_administration_allowed=self._is_administration_allowed)
            if call is Call.ADMINISTRATION:
                scopes.require("admin")
            if call in (Call.INFERENCE, Call.STREAM):
                drain.of(scope).require_open()
            timeout_s = remaining_s(self._timeout_s)
            async with asyncio.timeout(timeout_s):
                await self._pass(call, path, scope, receive, answer)
        except CallerLeftError as error:
            note(error)
            logger.info("the caller left")
        except TimeoutError:
            await answer.refuse(DeadlineExceededError(answer.stage.value.format(timeout_s)))
        except FastAPITritonError as error:
            await answer.refuse(error)
        except asyncio.CancelledError as cancelled:
            reason = drain.of(scope).explain(cancelled)
            if not isinstance(reason, FastAPITritonError):
                raise
            await answer.refuse(reason)

    async def _pass(self, call: Call, path: bytes, scope: Scope, receive: Receive, answer: "_Answer") -> None:
        seen = current_observation.get()
        seen.route, answer.model = v2_call.labels(path)
        is_work = call in (Call.INFERENCE, Call.STREAM)
        admission = self._admissions.of_name(answer.model) if is_work else self._questions
        admission.require_room()
        request = _Request(path, scope, self._connections.headers)
        # A question is asked once more where its connection breaks; nothing else is.
        if call is Call.QUESTION and not request.has_body:
            try:
                await self._exchange(call, request, admission, receive, answer)
                return
            except TritonUnavailableError as error:
                if error.code != LOST or answer.is_started:
                    raise
        status = await self._exchange(call, request, admission, receive, answer)
        if is_work and status == HTTPStatus.OK:
            self._admissions.of(answer.model)  # so there is such a model

    async def _exchange(
        self, call: Call, request: "_Request", admission: Admission, receive: Receive, answer: "_Answer"
    ) -> int:
        """Gives the status of Triton's answer."""
        connection = await self._connections.take()
        try:
            connection.start(request.head, is_chunked=request.is_chunked)
            last = await _upload(connection, receive) if request.has_body else ()
            if not connection.is_answered:
                answer.stage = _Stage.WAITING
                with await admission.place(receive=receive), Stage(TRITON, answer.model):
                    answer.stage = _Stage.ASKED
                    connection.finish(*last)
                    if call is Call.STREAM:
                        await self._relay_stream(answer, connection, receive)
                    else:
                        await self._await_head(connection, call)
            if call is not Call.STREAM or not answer.is_started:
                await answer.relay(connection)
            return connection.status
        finally:
            self._connections.give_back(connection)

    async def _await_head(self, connection: Connection, call: Call) -> None:
        try:
            await connection.head()
        except asyncio.CancelledError:
            if call is Call.INFERENCE:
                self._connections.leave(connection)
            raise

    async def _relay_stream(self, answer: "_Answer", connection: Connection, receive: Receive) -> None:
        if self._keeps_running:
            await answer.relay(connection)
        else:
            await unless_caller_leaves(receive, answer.relay(connection))


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

    def __init__(self, path: bytes, scope: Scope, ours: HeaderLines) -> None:
        headers: Headers = scope["headers"]
        dropped: frozenset[bytes] = _NOT_TO_TRITON | ours.names if ours.names else _NOT_TO_TRITON
        for name, value in headers:
            if name == b"connection":  # what it names is between the caller and us
                dropped |= {each.strip().lower() for each in value.split(b",")}
        trace_headers: Headers = ()
        if current_observation.get().is_traced:
            dropped |= _TRACE
            trace_headers = [(name.encode(), value.encode()) for name, value in request_trace_headers()]
        lengths = {value for name, value in headers if name == b"content-length"}
        self.is_chunked = any(name == b"transfer-encoding" for name, _ in headers)
        self.has_body = self.is_chunked or bool(lengths)
        if len(lengths) > 1 or (self.is_chunked and lengths):
            raise UnreadableRequestError("The request says its length in more than one way.")
        query = scope.get("query_string", b"")
        lines = [
            scope["method"].encode() + b" " + path + (b"?" + query if query else b"") + b" HTTP/1.1\r\n",
            ours.lines(),
            *(name + b": " + value + b"\r\n" for name, value in headers if name not in dropped),
            *(name + b": " + value + b"\r\n" for name, value in trace_headers),
            b"x-request-id: " + current_request_id.get().encode() + b"\r\n",
        ]
        if self.is_chunked:
            lines.append(b"transfer-encoding: chunked\r\n")
        elif lengths:
            lines.append(b"content-length: " + lengths.pop() + b"\r\n")
        elif scope["method"] == "POST":
            lines.append(b"content-length: 0\r\n")
        self.head = b"".join((*lines, b"\r\n"))


class _Stage(Enum):
    """How far a request is, and what is said when its time is over then."""

    COMING = "The request's body had not come whole within {:.3g} s."
    WAITING = "It was not the request's turn within {:.3g} s; nothing was run."
    ASKED = "Triton gave no answer within {:.3g} s. It may still be working on the request."


class _Answer:
    """What the caller gets: Triton's answer, or why there is none."""

    def __init__(self, send: Send, known_models: set[str]) -> None:
        self._send = send
        self._known_models = known_models
        self.model = ""
        self.is_started = False
        self.stage = _Stage.COMING

    async def relay(self, connection: Connection) -> None:
        """Pass Triton's answer on as it comes."""
        head = await connection.head()
        if head.status in (401, 407):  # it is the frontend that is not known there, not its caller
            raise access_denied(head.status)
        headers = [(name, value) for name, value in head.headers if name not in _NOT_TO_CALLER]
        self.is_started = True
        self._observe(head.status)
        await self._send({"type": "http.response.start", "status": head.status, "headers": headers})
        more_body = True
        while more_body:
            piece, more_body = await connection.read()
            await self._send({"type": "http.response.body", "body": piece, "more_body": more_body})

    def _observe(self, status: int) -> None:
        seen = current_observation.get()
        if status < 400:
            self._known_models.add(self.model)
        else:
            seen.code = FROM_TRITON
        if self.model in self._known_models:
            seen.model = self.model

    async def refuse(self, error: FastAPITritonError) -> None:
        """Tell of an error, where nothing was told yet."""
        note(error)
        if self.model in self._known_models:
            current_observation.get().model = self.model
        if self.is_started:
            # The server closes the connection of an answer that is not whole: so the caller sees that it is not.
            logger.warning("the answer was cut off: %s", error.detail)
            return
        reply = refusal(error)
        await self._send({"type": "http.response.start", "status": reply.status_code, "headers": reply.raw_headers})
        await self._send({"type": "http.response.body", "body": reply.body, "more_body": False})


def refusal(error: FastAPITritonError) -> Response:
    """An error of ours as tritonclient reads it: `{"error": "…"}`."""
    told = {"error": error.detail, "code": error.code, "request_id": current_request_id.get()}
    headers = problems.headers(error)
    if isinstance(error, MethodNotAllowedError):
        headers["Allow"] = ", ".join(error.allowed)
    return Response(orjson.dumps(told), error.status, headers, "application/json")


def _path(scope: Scope) -> bytes:
    """The path as it was sent, less what the app is mounted under, where a proxy has left that in."""
    path: bytes = scope["raw_path"]
    root = quote(scope.get("root_path", "")).encode()
    return path[len(root) :] if root and path.startswith(root + b"/") else path
