# SPDX-License-Identifier: Apache-2.0
"""One request and its response on a connection: uvicorn's request cycle with the limits of `http_protocol.py`."""

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from uvicorn._types import ASGIReceiveEvent, ASGISendEvent
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from fastapi_triton.core.body_buffers import BodyBuffers
from fastapi_triton.core.errors import FastAPITritonError

# The protocol pauses reading while more bytes of a body wait for the app.
_HIGH_WATER_BYTES = 256 * 1024


class Exchange(RequestResponseCycle):
    """uvicorn's request cycle with the behaviour that uvicorn lacks. It is not faster.

    - `count` limits the memory of all bodies in the process (`test_body_buffers.py`).
    - `fail` raises an error in the app when a request is rejected in the middle of its body (`test_slow_clients.py`).
    - `receive` resumes reading through the protocol, which holds unparsed bytes and pipelined requests
      (`test_parser_limits.py`).
    - `send` leaves closing to the protocol, which first drops the rest of a rejected body. It raises an error for a
      header without a name (`test_http_protocol.py`).
    """

    def __init__(
        self,
        protocol: HttpToolsProtocol,
        on_complete: Callable[["Exchange"], None],
        read_on: Callable[[], None],
        *,
        keep_alive: bool,
    ) -> None:
        super().__init__(
            scope=protocol.scope,
            transport=protocol.transport,
            flow=protocol.flow,
            logger=protocol.logger,
            access_logger=protocol.access_logger,
            access_log=protocol.access_log,
            default_headers=protocol.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=protocol.expect_100_continue,
            keep_alive=keep_alive,
            on_response=partial(on_complete, self),
        )
        self._read_on = read_on
        self._closes = False
        self._pieces: list[bytes] = []
        self._num_waiting_bytes = 0
        self._num_counted_bytes = 0
        self._buffers: BodyBuffers | None = None
        self._error: FastAPITritonError | None = None

    # ---- called by the protocol

    @property
    def closes(self) -> bool:
        """Whether the connection closes after this response."""
        return self._closes or not self.keep_alive

    @property
    def has_enough(self) -> bool:
        """Whether reading should pause until the app has read what was received."""
        return self._num_waiting_bytes > _HIGH_WATER_BYTES and not self.response_complete

    @property
    def num_pieces(self) -> int:
        """The number of received pieces that wait for the app."""
        return len(self._pieces)

    def take(self, body: bytes) -> None:
        """Add a received piece of the request's body."""
        self._pieces.append(body)
        self._num_waiting_bytes += len(body)
        self.message_event.set()

    def count(self, num_bytes: int, buffers: BodyBuffers) -> None:
        """Count the received bytes of the body in the limit of the process, until the request has ended.

        Raises:
            OverloadedError: the process holds too many bytes.
        """
        buffers.take(num_bytes - self._num_counted_bytes)
        self._num_counted_bytes, self._buffers = num_bytes, buffers

    def release(self) -> None:
        """Drop the body, and stop counting its bytes."""
        if self._buffers is not None:
            self._buffers.release(self._num_counted_bytes)
            self._buffers, self._pieces = None, []

    def fail(self, error: FastAPITritonError) -> None:
        """The rest of the request will not arrive: `receive` raises this error."""
        self._error = error
        self.keep_alive = False
        self.message_event.set()

    def disconnect(self) -> None:
        """The client has disconnected."""
        self.release()
        if not self.response_complete:
            self.disconnected = True
            self.message_event.set()

    # ---- called by the app

    async def receive(self) -> ASGIReceiveEvent:
        """Wait for more of the body. Returns the bytes that were received since the last call.

        Raises:
            FastAPITritonError: the rest will not arrive. Only a `TritonFrontend` gets this error.
        """
        if self.waiting_for_100_continue and not self.transport.is_closing():
            self.waiting_for_100_continue = False
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if not (self.disconnected or self.response_complete):
            if self.flow.read_paused:
                self._read_on()
            await self.message_event.wait()
            self.message_event.clear()
        if self.disconnected or self.response_complete:
            return {"type": "http.disconnect"}
        if self._error is not None:
            raise self._error
        body, self._pieces = b"".join(self._pieces), []
        self._num_waiting_bytes = 0
        return {"type": "http.request", "body": body, "more_body": self.more_body}

    def send(self, message: ASGISendEvent) -> Coroutine[Any, Any, None]:
        if message["type"] == "http.response.start":
            headers = message["headers"] = list(message.get("headers", ()))
            if b"" in dict(headers):
                raise RuntimeError("A header of the response has no name.")
        elif not self.keep_alive:
            self._closes = self.keep_alive = True
        return super().send(message)
