# SPDX-License-Identifier: Apache-2.0
"""`/v2`: Triton's own protocol through the frontend, byte for byte both ways, under the limits that all others have."""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from enum import Enum
from http import HTTPStatus
from typing import NamedTuple
from urllib.parse import quote

import orjson
from starlette.responses import Response
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Receive, Scope, Send

from fastapi_triton.admission.fair_queue import QueueTicket
from fastapi_triton.admission.limiter import Admission, Admissions
from fastapi_triton.app.triton_proxy import request_body, request_head, routes
from fastapi_triton.app.triton_proxy.model_configs import ModelConfigs, NoConfigError
from fastapi_triton.app.triton_proxy.routes import Call
from fastapi_triton.app.triton_proxy.silent_stream import SilentStream
from fastapi_triton.core import problem_details, shutdown
from fastapi_triton.core.asgi import route_path
from fastapi_triton.core.body_buffers import BodyBuffers
from fastapi_triton.core.context import current_request_id, remaining_s
from fastapi_triton.core.disconnect import unless_caller_leaves
from fastapi_triton.core.errors import (
    CallerLeftError,
    DeadlineExceededError,
    FastAPITritonError,
    MethodNotAllowedError,
    TritonUnavailableError,
    UnreadableRequestError,
)
from fastapi_triton.core.request_record import TRITON, Stage, current_observation, note, request_trace_headers
from fastapi_triton.core.settings import Settings
from fastapi_triton.middleware.auth import scopes
from fastapi_triton.triton.http_client import HTTPTriton
from fastapi_triton.triton.transport.connection import AnswerHead, Connection, Headers
from fastapi_triton.triton.transport.errors import LOST, access_denied
from fastapi_triton.triton.transport.pool import alone

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
# The code by which an error of Triton's own is counted: it passes untouched.
FROM_TRITON = "from_triton"
_LONG_ANSWER_BYTES = 4 * 1024 * 1024
_WORK = (Call.INFERENCE, Call.STREAM)
# Longer than Triton's message for a dead model process.
_FAILURE_BYTES = 1024
_NOT_TO_CALLER = _HOP_BY_HOP | {b"date", b"server"}


class Passage:
    """An ASGI app for everything under `/v2`, over the connections of `triton`, which the app opens and closes.

    A request is read whole and checked before any of it goes to Triton, since some malformed requests kill Triton. Then
    an inference request takes its place in flight. It gives the place back when Triton's answer begins, and a stream
    when it ends, so slow clients hold no places. If a client leaves, its connection to Triton is closed. Only a request
    that Triton has received completely keeps its place, since Triton goes on working.
    """

    def __init__(
        self, triton: HTTPTriton, *, admissions: Admissions, settings: Settings, body_buffers: BodyBuffers
    ) -> None:
        self._triton = triton
        self._connections = triton.connections
        self._prefix = triton.connections.address.path.encode()
        self._admissions = admissions
        self._questions = Admission("/v2", MAX_QUESTIONS)
        self._timeout_s = settings.request_timeout_s
        self._event_heartbeat_s = settings.event_heartbeat_s
        # Those that Triton has answered for: only their names become labels.
        self._models: set[str] = set()
        self._configs = ModelConfigs(triton.question)
        self._max_body_bytes = settings.max_body_bytes
        self._body_buffers = body_buffers
        self._is_administration_allowed = settings.v2_admin
        self._passed_headers = request_head.PASSED | {name.encode() for name in settings.v2_headers}
        self._passed_headers -= triton.connections.headers.names
        self._keeps_running = settings.keep_running_when_caller_leaves

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = _Answer(send, self._models)
        try:
            path = _path(scope)
            call = routes.read(scope["method"], path, is_administration_allowed=self._is_administration_allowed)
            if call is Call.ADMINISTRATION:
                scopes.require("admin")
            if call in _WORK:
                shutdown.of(scope).require_open()
            timeout_s = remaining_s(self._timeout_s)
            async with asyncio.timeout(timeout_s):
                await self._pass(call, path, scope, receive, answer)
        except CallerLeftError as error:
            note(error)
            logger.info("the caller left")
        except TimeoutError:
            await answer.refuse(DeadlineExceededError(answer.stage.value.format(timeout_s)))
        except NoConfigError as refusal:
            await answer.pass_on(refusal)
        except FastAPITritonError as error:
            await answer.refuse(error)
        except asyncio.CancelledError as cancelled:
            reason = shutdown.of(scope).explain(cancelled)
            if not isinstance(reason, FastAPITritonError):
                raise
            await answer.refuse(reason)

    async def _pass(self, call: Call, path: bytes, scope: Scope, receive: Receive, answer: "_Answer") -> None:
        seen = current_observation.get()
        seen.route, answer.model = routes.labels(path)
        is_work = call in _WORK
        admission = self._admissions.of_name(answer.model) if is_work else self._questions
        admission.require_room()
        self._connections.breaker.require_closed()
        headers: Headers = scope["headers"]
        lines = request_head.passed_lines(headers, self._passed_headers, is_traced=seen.is_traced)
        body = await request_body.read(receive, headers)
        asked = _Asked(call, path, scope, lines, admission)
        if coding := request_body.coding(headers):
            limit = self._max_body_bytes
            packed = request_body.joined(body)
            async with request_body.unpacked(packed, coding, max_bytes=limit, buffers=self._body_buffers) as whole:
                await self._serve(asked, [whole], receive, answer)
        else:
            await self._serve(asked, body, receive, answer)

    async def _serve(self, asked: "_Asked", body: Sequence[bytes], receive: Receive, answer: "_Answer") -> None:
        """Check a request, and have Triton answer it."""
        await self._check(asked, body)
        answer.stage = _Stage.WAITING
        head = self._head(asked, request_body.length_of(body))
        try:
            if asked.call is Call.STREAM:
                async with answer.kept_alive(self._event_heartbeat_s):
                    status = await self._exchange(asked, head, body, receive, answer)
            else:
                status = await self._exchange(asked, head, body, receive, answer)
        except TritonUnavailableError as error:
            # Only questions are sent again if their connection breaks.
            if asked.call is not Call.QUESTION or body or error.code != LOST or answer.is_started:
                raise
            status = await self._exchange(asked, head, body, receive, answer)
        if asked.call in _WORK and status == HTTPStatus.OK:
            self._admissions.of(answer.model)  # so there is such a model
        elif asked.call in _WORK:
            await self._triton.learn(answer.model, answer.failure, answer.sent_at)

    async def _check(self, asked: "_Asked", body: Sequence[bytes]) -> None:
        """Refuse requests that would harm Triton."""
        if not asked.path.endswith(b"/infer"):
            if asked.call is Call.ADMINISTRATION and asked.path.endswith(b"/load"):
                await request_body.check_load(request_body.joined(body))
            else:
                await request_body.check_plain(request_body.joined(body), is_empty_allowed=asked.call not in _WORK)
            return
        request = await request_body.check_inference(
            body, asked.scope["headers"], is_shared_memory_allowed=self._is_administration_allowed
        )
        if request is None or not request.names_tensors:
            return
        model_path = asked.path.removesuffix(b"/infer").decode("ascii")
        try:
            request.require_fit(await self._configs.get(model_path))
        except UnreadableRequestError:
            request.require_fit(await self._configs.again(model_path))

    def _head(self, asked: "_Asked", num_body_bytes: int) -> bytes:
        """A request's head as it goes to Triton."""
        method, query = asked.scope["method"], asked.scope.get("query_string", b"")
        trace_headers: Sequence[tuple[str, str]] = ()
        if current_observation.get().is_traced:
            trace_headers = request_trace_headers()
        parts = [
            method.encode() + b" " + self._prefix + asked.path + (b"?" + query if query else b"") + b" HTTP/1.1\r\n",
            self._connections.headers.lines(),
            asked.lines,
            *(f"{name}: {value}\r\n".encode() for name, value in trace_headers),
            b"x-request-id: " + current_request_id.get().encode() + b"\r\n",
        ]
        if num_body_bytes or method == "POST":
            parts.append(b"content-length: %d\r\n" % num_body_bytes)
        return b"".join((*parts, b"\r\n"))

    async def _exchange(
        self, asked: "_Asked", head: bytes, body: Sequence[bytes], receive: Receive, answer: "_Answer"
    ) -> int:
        """Gives the status of Triton's answer."""
        taken: list[Connection] = []

        async def connect() -> Connection:
            taken.append(await self._connections.take())  # so that it is given back even if the client leaves now
            return taken[0]

        try:
            with await asked.admission.place(receive=receive, ticket=answer.ticket), Stage(TRITON, answer.model):
                answer.stage = _Stage.ASKED
                connection = self._connections.take_idle()
                if connection is None:
                    connection = await unless_caller_leaves(receive, connect())
                else:
                    taken.append(connection)
                answer.sent_at = asyncio.get_running_loop().time()
                running = self._triton.processes.running(answer.model) if asked.call in _WORK else alone
                with running(connection):
                    connection.start(head)
                    connection.finish(*body)
                    await self._wait(asked.call, connection, receive, answer)
            if asked.call is not Call.STREAM:
                await answer.relay_watching(connection, receive)
            return connection.status
        finally:
            for connection in taken:
                self._connections.give_back(connection)

    async def _wait(self, call: Call, connection: Connection, receive: Receive, answer: "_Answer") -> None:
        """Wait for as long as a request holds its place."""
        if call is Call.STREAM:
            await self._relay_stream(answer, connection, receive)
        elif call is Call.QUESTION:
            await unless_caller_leaves(receive, connection.head())
        else:
            await self._await_head(connection, receive)

    async def _await_head(self, connection: Connection, receive: Receive) -> None:
        try:
            if not connection.is_flushed:
                # Until it has the whole of it, Triton does not begin.
                await unless_caller_leaves(receive, connection.flushed())
            await connection.head()
        except asyncio.CancelledError:
            self._connections.leave(connection)
            raise

    async def _relay_stream(self, answer: "_Answer", connection: Connection, receive: Receive) -> None:
        if self._keeps_running:
            await answer.relay(connection)
        else:
            await unless_caller_leaves(receive, answer.relay(connection))


class PassageRoute(BaseRoute):
    """`/v2` and all below it. It has no path template: `routes.labels` names the route of each request."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        path = route_path(scope)
        is_ours = scope["type"] == "http" and path.startswith("/v2") and path[3:4] in ("", "/")
        return (Match.FULL if is_ours else Match.NONE), {}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)


class _Asked(NamedTuple):
    """A request before its body. `lines` are the headers that go to Triton."""

    call: Call
    path: bytes
    scope: Scope
    lines: bytes
    admission: Admission


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
        self.ticket: QueueTicket | None = None
        self.sent_at = 0.0  # when the request began to go to Triton, by the event loop's clock
        self.failure = b""  # the beginning of what Triton answered instead of a result

    @asynccontextmanager
    async def kept_alive(self, interval_s: float) -> AsyncIterator[None]:
        """Send heartbeats until there is an answer, which is a stream of events."""
        stream = SilentStream(self._send)
        self.ticket, self._send = stream.ticket, stream.send
        async with stream.kept_alive(interval_s):
            yield

    async def relay(self, connection: Connection) -> None:
        """Pass Triton's answer on as it comes."""
        await self._begin(await connection.head())
        await self._relay_body(connection)

    async def relay_watching(self, connection: Connection, receive: Receive) -> None:
        """The same, until the client leaves. That is looked for in long answers only; it costs as much as a short one.

        Raises:
            CallerLeftError: the client left.
        """
        await self._begin(await connection.head())
        if await self._relay_body(connection, _LONG_ANSWER_BYTES):
            await unless_caller_leaves(receive, self._relay_body(connection))

    async def _relay_body(self, connection: Connection, num_bytes: int | None = None) -> bool:
        """Relay at least this many bytes. Returns whether there is more."""
        more_body = True
        while more_body and (num_bytes is None or num_bytes > 0):
            piece, more_body = await connection.read()
            if connection.status >= 400 and len(self.failure) < _FAILURE_BYTES:
                self.failure += piece[:_FAILURE_BYTES]
            await self._send({"type": "http.response.body", "body": piece, "more_body": more_body})
            if num_bytes is not None:
                num_bytes -= len(piece)
        return more_body

    async def pass_on(self, refusal: NoConfigError) -> None:
        """Pass on Triton's answer about a model without a config."""
        try:
            await self._begin(refusal.head)
        except FastAPITritonError as error:
            await self.refuse(error)
        else:
            await self._send({"type": "http.response.body", "body": refusal.body, "more_body": False})

    async def _begin(self, head: AnswerHead) -> None:
        if head.status in (401, 407):  # it is the frontend that is not known there, not its caller
            raise access_denied(head.status)
        headers = [(name, value) for name, value in head.headers if name not in _NOT_TO_CALLER]
        self.is_started = True
        self._observe(head.status)
        await self._send({"type": "http.response.start", "status": head.status, "headers": headers})

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
    headers = problem_details.headers(error)
    if isinstance(error, MethodNotAllowedError):
        headers["Allow"] = ", ".join(error.allowed)
    return Response(orjson.dumps(told), error.status, headers, "application/json")


def _path(scope: Scope) -> bytes:
    """The path as it was sent, less what the app is mounted under, where a proxy has left that in."""
    path: bytes = scope["raw_path"]
    root = quote(scope.get("root_path", "")).encode()
    return path[len(root) :] if root and path.startswith(root + b"/") else path
