# SPDX-License-Identifier: Apache-2.0
"""`/v2`: Triton's own protocol, byte for byte both ways, under the limits that hold for all requests."""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import nullcontext
from http import HTTPStatus
from types import TracebackType
from typing import NamedTuple, Self
from urllib.parse import quote

from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Receive, Scope, Send

from fastapi_triton.admission.limiter import Admission
from fastapi_triton.app.triton_proxy import request_body, request_head, routes
from fastapi_triton.app.triton_proxy.model_configs import ModelConfigs, NoConfigError
from fastapi_triton.app.triton_proxy.response import ProxyResponse
from fastapi_triton.app.triton_proxy.routes import Call
from fastapi_triton.core import shutdown
from fastapi_triton.core.body_buffers import BodyBuffers
from fastapi_triton.core.disconnect import cancel_on_disconnect
from fastapi_triton.core.errors import (
    ClientDisconnectedError,
    FastAPITritonError,
    TritonUnavailableError,
    UnreadableRequestError,
)
from fastapi_triton.core.paths import V2, is_below, route_path
from fastapi_triton.core.request_record import TRITON, Stage, current_record, record_error
from fastapi_triton.core.slot import Slot
from fastapi_triton.endpoints.interfaces import Services
from fastapi_triton.endpoints.pipeline import PipelineStage, enter, within_deadline
from fastapi_triton.middleware.auth import scopes
from fastapi_triton.triton.http_client import HTTPTriton
from fastapi_triton.triton.transport.connection import Connection, Headers
from fastapi_triton.triton.transport.errors import LOST

logger = logging.getLogger(__name__)

# Questions have slots of their own, so that probes and statistics are answered while all slots of the models are taken.
MAX_QUESTIONS = 64
_WORK = (Call.INFERENCE, Call.STREAM)
_NOTHING = nullcontext()


class _Request(NamedTuple):
    """A request before its body. `lines` are the headers that go to Triton."""

    call: Call
    path: bytes
    scope: Scope
    lines: bytes
    admission: Admission


class TritonProxy:
    """An ASGI app for everything under `/v2`, over the connections of `triton`, which the app opens and closes.

    A request is read whole and checked before any of it goes to Triton, since some malformed requests kill Triton. Then
    an inference request takes its slot. It gives the slot back when Triton's response begins, and a stream when it
    ends, so slow clients hold no slots. If a client leaves, its connection to Triton is closed. Only a request that
    Triton has received completely keeps its slot, since Triton goes on working.
    """

    def __init__(self, triton: HTTPTriton, services: Services, body_buffers: BodyBuffers) -> None:
        self._triton = triton
        self._pool = triton.pool
        self._prefix = triton.pool.address.path.encode()
        self._pipeline = services.pipeline
        self._admissions = services.admission
        self._questions = Admission(V2, MAX_QUESTIONS)
        self._settings = services.settings
        self._models: set[str] = set()  # those that Triton has answered for
        self._configs = ModelConfigs(triton.question)
        self._body_buffers = body_buffers
        self._forwarded_headers = request_head.PASSED | {name.encode() for name in self._settings.v2_headers}
        self._forwarded_headers -= triton.pool.headers.names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        reply = ProxyResponse(send, self._models)
        try:
            path = _path(scope)
            call = routes.read(scope["method"], path, is_administration_allowed=self._settings.v2_admin)
            if call is Call.ADMINISTRATION:
                scopes.require("admin")
            if call in _WORK:
                shutdown.of(scope).require_open()
            await within_deadline(self._respond(call, path, scope, receive, reply), self._settings.request_timeout_s)
        except ClientDisconnectedError as error:
            record_error(error)
            logger.info("the caller left")
        except NoConfigError as error:
            await reply.forward(error.head, error.body)
        except FastAPITritonError as error:
            await reply.refuse(error)
        except asyncio.CancelledError as cancelled:
            reason = shutdown.of(scope).explain(cancelled)
            if not isinstance(reason, FastAPITritonError):
                raise
            await reply.refuse(reason)

    async def _respond(self, call: Call, path: bytes, scope: Scope, receive: Receive, reply: ProxyResponse) -> None:
        record = current_record.get()
        record.route, reply.model = routes.labels(path)
        admission = self._admissions.of_name(reply.model) if call in _WORK else self._questions
        self._pipeline.require_capacity(admission)
        self._pool.breaker.require_closed()
        enter(PipelineStage.READ)
        headers: Headers = scope["headers"]
        lines = request_head.passed_lines(headers, self._forwarded_headers, is_traced=record.is_traced)
        body = await request_body.read(receive, headers)
        request = _Request(call, path, scope, lines, admission)
        if coding := request_body.coding(headers):
            limit = self._settings.max_body_bytes
            packed = request_body.joined(body)
            async with request_body.unpacked(packed, coding, max_bytes=limit, buffers=self._body_buffers) as whole:
                await self._serve(request, [whole], receive, reply)
        else:
            await self._serve(request, body, receive, reply)

    async def _serve(self, request: _Request, body: Sequence[bytes], receive: Receive, reply: ProxyResponse) -> None:
        """Check a request, and have Triton answer it."""
        await self._check(request, body)
        query = request.scope.get("query_string", b"")
        target = self._prefix + request.path + (b"?" + query if query else b"")
        lines = self._pool.headers.lines() + request.lines
        head = request_head.proxied(request.scope["method"], target, lines, request_body.length_of(body))
        is_stream = request.call is Call.STREAM
        async with reply.kept_alive(self._settings.event_heartbeat_s) if is_stream else _NOTHING:
            try:
                status = await self._exchange(request, head, body, receive, reply)
            except TritonUnavailableError as error:
                # Only questions are sent again if their connection breaks.
                if request.call is not Call.QUESTION or body or error.code != LOST or reply.is_started:
                    raise
                status = await self._exchange(request, head, body, receive, reply)
        if request.call in _WORK and status == HTTPStatus.OK:
            self._admissions.of(reply.model)  # so there is such a model
        elif request.call in _WORK:
            await self._triton.learn(reply.model, reply.failure, reply.sent_at)

    async def _check(self, request: _Request, body: Sequence[bytes]) -> None:
        """Refuse requests that would harm Triton."""
        if not request.path.endswith(b"/infer"):
            if request.call is Call.ADMINISTRATION and request.path.endswith(b"/load"):
                await request_body.check_load(request_body.joined(body))
            else:
                await request_body.check_plain(request_body.joined(body), is_empty_allowed=request.call not in _WORK)
            return
        inference = await request_body.check_inference(
            body, request.scope["headers"], is_shared_memory_allowed=self._settings.v2_admin
        )
        if inference is None or not inference.names_tensors:
            return
        model_path = request.path.removesuffix(b"/infer").decode("ascii")
        try:
            inference.require_fit(await self._configs.get(model_path))
        except UnreadableRequestError:
            inference.require_fit(await self._configs.again(model_path))

    async def _exchange(
        self, request: _Request, head: bytes, body: Sequence[bytes], receive: Receive, reply: ProxyResponse
    ) -> int:
        """Send a request to Triton and relay the response. Returns its status."""
        slot = await self._pipeline.slot(request.admission, receive=receive, ticket=reply.ticket)
        with _TritonsWork(slot, Stage(TRITON, reply.model)) as work:
            is_cancelled = request.call in (Call.QUESTION, Call.STREAM)
            async with self._pool.exchange(is_cancelled_by_closing=is_cancelled, receive=receive) as connection:
                reply.sent_at = asyncio.get_running_loop().time()
                processes = self._triton.processes
                with processes.running(reply.model, connection) if request.call in _WORK else _NOTHING:
                    connection.start(head, *body)
                    connection.finish()
                    if request.call is Call.STREAM:
                        await self._pipeline.until_disconnect(receive, lambda _: reply.relay(connection))
                    else:
                        await self._await_head(request.call, connection, receive)
                if request.call is not Call.STREAM:
                    work.end()
                    enter(PipelineStage.RESPOND)
                    await reply.relay(connection, unless_leaving=receive)
                return connection.status

    async def _await_head(self, call: Call, connection: Connection, receive: Receive) -> None:
        if call is Call.QUESTION:
            await cancel_on_disconnect(receive, connection.head())
            return
        if not connection.is_flushed:  # Triton does not begin before it has the whole request
            await cancel_on_disconnect(receive, connection.flushed())
        await connection.head()


class _TritonsWork:
    """Holds a request's slot and records its stage until Triton has done its work, at the latest until the block ends.

    A class, since an `ExitStack` costs a small request several microseconds.
    """

    __slots__ = ("_contexts",)

    def __init__(self, slot: Slot, stage: Stage) -> None:
        self._contexts: tuple[Stage | Slot, ...] = (stage, slot)

    def __enter__(self) -> Self:
        for context in self._contexts:
            context.__enter__()
        return self

    def end(self) -> None:
        self.__exit__(None, None, None)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        contexts, self._contexts = self._contexts, ()
        for context in contexts:
            context.__exit__(kind, error, trace)


class TritonProxyRoute(BaseRoute):
    """`/v2` and all below it. It has no path template: `routes.labels` names the route of each request."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        is_ours = scope["type"] == "http" and is_below(route_path(scope), V2)
        return (Match.FULL if is_ours else Match.NONE), {}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)


def _path(scope: Scope) -> bytes:
    """The path as it was sent, less what the app is mounted under, where a proxy has left that in."""
    path: bytes = scope["raw_path"]
    root = quote(scope.get("root_path", "")).encode()
    return path[len(root) :] if root and path.startswith(root + b"/") else path
