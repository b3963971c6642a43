# SPDX-License-Identifier: Apache-2.0
"""The ASGI endpoint of `/v2`: checks a request, sends it to Triton and relays the response unchanged."""

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

# Status requests have slots of their own, so that probes and statistics work while the models' slots are taken.
MAX_STATUS_REQUESTS = 64
_WORK = (Call.INFERENCE, Call.STREAM)
_NO_CONTEXT = nullcontext()


class _Request(NamedTuple):
    """A request without its body. `lines` are the headers for Triton."""

    call: Call
    path: bytes
    scope: Scope
    lines: bytes
    admission: Admission


class TritonProxy:
    """An ASGI app for all requests under `/v2`. It uses the connections of `triton`, which the app opens and closes.

    The proxy reads and checks a request completely before it sends anything to Triton, since some malformed requests
    kill Triton. Then the request takes a slot. Inference frees the slot when Triton's response begins, so that slow
    clients hold no slots; a stream frees it at its end.

    If a client disconnects, its connection to Triton is closed. The exception is inference that Triton has received
    completely: it keeps its slot until Triton has finished.
    """

    def __init__(self, triton: HTTPTriton, services: Services, body_buffers: BodyBuffers) -> None:
        self._triton = triton
        self._pool = triton.pool
        self._prefix = triton.pool.address.path.encode()
        self._pipeline = services.pipeline
        self._admissions = services.admission
        self._status_requests = Admission(V2, MAX_STATUS_REQUESTS)
        self._settings = services.settings
        self._models: set[str] = set()  # the models for which Triton has sent a response that is not an error
        self._configs = ModelConfigs(triton.status_request)
        self._body_buffers = body_buffers
        self._forwarded_headers = request_head.PASSED | {name.encode() for name in self._settings.v2_headers}
        self._forwarded_headers -= triton.pool.headers.names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = ProxyResponse(send, self._models)
        try:
            path = _path(scope)
            call = routes.read(scope["method"], path, is_administration_allowed=self._settings.v2_admin)
            if call is Call.ADMINISTRATION:
                scopes.require("admin")
            if call in _WORK:
                shutdown.of(scope).require_open()
            await within_deadline(self._respond(call, path, scope, receive, response), self._settings.request_timeout_s)
        except ClientDisconnectedError as error:
            record_error(error)
            logger.info("the client disconnected before the response was complete")
        except NoConfigError as error:
            await response.forward(error.head, error.body)
        except FastAPITritonError as error:
            await response.send_error(error)
        except asyncio.CancelledError as cancelled:
            reason = shutdown.of(scope).explain(cancelled)
            if not isinstance(reason, FastAPITritonError):
                raise
            await response.send_error(reason)

    async def _respond(self, call: Call, path: bytes, scope: Scope, receive: Receive, response: ProxyResponse) -> None:
        record = current_record.get()
        record.route, response.model = routes.labels(path)
        admission = self._admissions.of_name(response.model) if call in _WORK else self._status_requests
        self._pipeline.require_capacity(admission)
        self._pool.breaker.require_closed()
        enter(PipelineStage.READ)
        headers: Headers = scope["headers"]
        lines = request_head.passed_lines(headers, self._forwarded_headers, is_traced=record.is_traced)
        body = await request_body.read(receive, headers)
        request = _Request(call, path, scope, lines, admission)
        if coding := request_body.coding(headers):
            limit = self._settings.max_body_bytes
            compressed = request_body.joined(body)
            async with request_body.decompressed(
                compressed, coding, max_bytes=limit, buffers=self._body_buffers
            ) as whole:
                await self._serve(request, [whole], receive, response)
        else:
            await self._serve(request, body, receive, response)

    async def _serve(self, request: _Request, body: Sequence[bytes], receive: Receive, response: ProxyResponse) -> None:
        """Check a request, send it to Triton and relay the response."""
        await self._check(request, body)
        query = request.scope.get("query_string", b"")
        target = self._prefix + request.path + (b"?" + query if query else b"")
        lines = self._pool.headers.lines() + request.lines
        head = request_head.proxied(request.scope["method"], target, lines, request_body.length_of(body))
        is_stream = request.call is Call.STREAM
        async with response.kept_alive(self._settings.event_heartbeat_s) if is_stream else _NO_CONTEXT:
            try:
                status = await self._exchange(request, head, body, receive, response)
            except TritonUnavailableError as error:
                # Only status requests are sent again if their connection breaks.
                if request.call is not Call.STATUS or body or error.code != LOST or response.is_started:
                    raise
                status = await self._exchange(request, head, body, receive, response)
        if request.call in _WORK and status == HTTPStatus.OK:
            self._admissions.of(response.model)  # the model exists, so it gets its own slots
        elif request.call in _WORK:
            await self._triton.learn(response.model, response.failure, response.sent_at)

    async def _check(self, request: _Request, body: Sequence[bytes]) -> None:
        """Reject requests that would harm Triton."""
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
        self, request: _Request, head: bytes, body: Sequence[bytes], receive: Receive, response: ProxyResponse
    ) -> int:
        """Send a request to Triton and relay the response. Returns its status."""
        slot = await self._pipeline.slot(request.admission, receive=receive, ticket=response.ticket)
        with _WorkAtTriton(slot, Stage(TRITON, response.model)) as work:
            is_cancelled = request.call in (Call.STATUS, Call.STREAM)
            async with self._pool.exchange(is_cancelled_by_closing=is_cancelled, receive=receive) as connection:
                response.sent_at = asyncio.get_running_loop().time()
                processes = self._triton.processes
                with processes.running(response.model, connection) if request.call in _WORK else _NO_CONTEXT:
                    connection.start(head, *body)
                    connection.finish()
                    if request.call is Call.STREAM:
                        await self._pipeline.until_disconnect(receive, lambda _: response.relay(connection))
                    else:
                        await self._await_head(request.call, connection, receive)
                if request.call is not Call.STREAM:
                    work.end()
                    enter(PipelineStage.RESPOND)
                    await response.relay(connection, until_disconnect=receive)
                return connection.status

    async def _await_head(self, call: Call, connection: Connection, receive: Receive) -> None:
        if call is Call.STATUS:
            await cancel_on_disconnect(receive, connection.head())
            return
        if not connection.is_flushed:  # Triton does not begin before it has the complete request
            await cancel_on_disconnect(receive, connection.flushed())
        await connection.head()


class _WorkAtTriton:
    """Holds a request's slot and records its stage until Triton has finished, at the latest until the block ends.

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
    """The route for `/v2` and all paths below. It has no path template: `routes.labels` names each request's route."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        is_ours = scope["type"] == "http" and is_below(route_path(scope), V2)
        return (Match.FULL if is_ours else Match.NONE), {}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)


def _path(scope: Scope) -> bytes:
    """The path as the client sent it, without `root_path` if a proxy has left that in."""
    path: bytes = scope["raw_path"]
    root = quote(scope.get("root_path", "")).encode()
    return path[len(root) :] if root and path.startswith(root + b"/") else path
