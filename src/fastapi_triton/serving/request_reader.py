# SPDX-License-Identifier: Apache-2.0
"""Feeds the bytes of a connection to the parser in slices, and applies limits."""

import asyncio
from abc import ABC, abstractmethod
from enum import Enum
from typing import Any

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from fastapi_triton.core.body_buffers import BodyBuffers
from fastapi_triton.core.errors import FastAPITritonError, OverloadedError
from fastapi_triton.serving import refusals, upgrades
from fastapi_triton.serving.refusals import MAX_HEAD_BYTES, MAX_HEADERS

# The parser gets slices of this size. This limits how many pipelined requests are parsed in advance.
_SLICE_BYTES = 32 * 1024
# A slice with more pieces of a body than this contains tiny chunks. Other connections run before the next slice.
_MANY_PIECES = 64
# The limit for the bytes of framing and chunk extensions per byte of the body. One-byte chunks have 5.
_MAX_FRAMING = 16


class Reading(Enum):
    """The part of a request that a connection reads."""

    NOTHING_YET = 0
    HEAD = 1
    BODY = 2
    WHOLE = 3  # the request is complete; the head of the next one may come
    LINGERING = 4  # further data is dropped until the connection closes


# Reading a member of the Enum takes longer than the rest of the work with it.
_NOTHING_YET, _HEAD, _BODY, _WHOLE, _LINGERING = Reading


class RequestReader(HttpToolsProtocol, ABC):
    """The reading half of a connection. The other half sets `body_buffers`."""

    body_buffers: BodyBuffers

    def __init__(
        self, config: Config, server: ServerState, app_state: dict[str, Any], loop: asyncio.AbstractEventLoop | None
    ) -> None:
        super().__init__(config, server, app_state, loop)
        self.reading = _NOTHING_YET
        # Received bytes that wait to be parsed; and whether further bytes are dropped.
        self.unparsed = b""
        self.drops_data = False
        # The number of bytes: of the request in earlier slices; of its body; of its trailer fields.
        self._num_bytes = self.num_body_bytes = self._num_trailer_bytes = 0
        # Ticks of the watch: since the last byte received or the last response sent; and since the head or body began.
        self.num_quiet = self.num_spent = 0

    @property
    @abstractmethod
    def is_free(self) -> bool:
        """Whether no request waits for its response. A request without a complete head does not wait yet."""

    @abstractmethod
    def refuse(self, error: FastAPITritonError) -> None:
        """Reject the current request with this error, and read no more requests."""

    @abstractmethod
    def hold_back(self) -> None:
        """Pause reading if enough of a body waits for the app."""

    @property
    @abstractmethod
    def num_pieces(self) -> int:
        """The number of body pieces that wait for the app."""

    def data_received(self, data: bytes) -> None:
        self.num_quiet = 0
        if self.reading is _LINGERING or self.drops_data:
            return
        if self.unparsed:
            self._put_off(self.unparsed + data)
        elif len(data) > _SLICE_BYTES:
            self._parse_slices(memoryview(data))
        else:
            self._parse(data)

    def read_on(self) -> None:
        """Parse the waiting bytes, then read more, unless a pipelined request waits."""
        if self.pipeline or self.transport.is_closing():
            return
        if self.unparsed:
            unparsed = self.unparsed
            self.forget_unparsed()
            self._parse_slices(memoryview(unparsed))
        if self.drops_data and not self.unparsed:
            self.refuse(refusals.too_many_pipelined())
        elif not self.unparsed:
            self.flow.resume_reading()

    def _parse_slices(self, data: memoryview) -> None:
        """Parse until a pipelined request has to wait, or until other connections should run."""
        num_pieces = self.num_pieces
        for start in range(0, len(data), _SLICE_BYTES):
            if self.reading is _LINGERING:
                return
            if self.pipeline or self.num_pieces > num_pieces + _MANY_PIECES:
                self._put_off(bytes(data[start:]))
                return
            self._parse(data[start : start + _SLICE_BYTES])

    def _put_off(self, data: bytes) -> None:
        self.forget_unparsed()
        try:
            self.body_buffers.take(len(data))
        except OverloadedError as error:
            self.refuse(error)
            return
        self.unparsed = data
        self.flow.pause_reading()
        if not self.pipeline:
            self.loop.call_soon(self.read_on)

    def forget_unparsed(self) -> None:
        """Clear the waiting bytes: they were parsed, or are dropped."""
        self.body_buffers.release(len(self.unparsed))
        self.unparsed = b""

    def _parse(self, data: bytes | memoryview) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            if not self._parse_without_upgrade(data, upgrade):
                return
        except httptools.HttpParserError as error:
            self.refuse(refusals.reason(error))
            return
        if self.reading is _BODY:
            self.hold_back()
        elif self.reading is not _HEAD:
            return
        self._num_bytes += len(data)
        # The first slice may have begun with the end of another request.
        if self._num_bytes > MAX_HEAD_BYTES + _SLICE_BYTES + (1 + _MAX_FRAMING) * self.num_body_bytes:
            self.refuse(refusals.too_much_framing() if self.num_body_bytes else refusals.head_too_large())

    def _parse_without_upgrade(self, data: bytes | memoryview, upgrade: httptools.HttpParserUpgrade) -> bool:
        try:
            upgrades.feed_rest(self, data, upgrade)
        except httptools.HttpParserError as error:
            self.refuse(refusals.reason(error))
            return False
        return True

    def _should_upgrade(self) -> bool:
        """Whether to upgrade to a websocket, if a library for websockets is installed. Other upgrades are ignored."""
        return self.is_free and self.parser.get_method() == b"GET" and super()._should_upgrade()

    # ---- called by the parser

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.reading = _HEAD
        self._num_bytes = self.num_body_bytes = self._num_trailer_bytes = self.num_spent = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.reading is not _HEAD:
            self._on_trailer(name, value)
            return
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def _on_trailer(self, name: bytes, value: bytes) -> None:
        """Count and drop a trailer field, as RFC 9110 section 6.5.1 allows."""
        self._num_trailer_bytes += len(name) + len(value) + 4
        if self._num_trailer_bytes > MAX_HEAD_BYTES:
            raise refusals.head_too_large()

    def require_small_head(self) -> None:
        """Check the size of a complete head.

        Raises:
            HeadTooLargeError: it is over the limit.
        """
        if len(self.headers) > MAX_HEADERS:
            raise refusals.too_many_headers()
        # A head that came in one slice is never over the limit.
        if self._num_bytes and _size(self.url, self.headers) > MAX_HEAD_BYTES:
            raise refusals.head_too_large()


def _size(url: bytes, headers: list[tuple[bytes, bytes]]) -> int:
    return len(url) + sum(len(name) + len(value) + 4 for name, value in headers)
