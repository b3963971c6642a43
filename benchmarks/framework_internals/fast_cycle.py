# SPDX-License-Identifier: Apache-2.0
"""A request cycle as the frontend once had it: it writes head and body at once and checks header names once."""

import re
from collections.abc import Iterable

from uvicorn._types import ASGISendEvent
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from fastapi_triton.serving.request_cycle import Exchange

_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_NOT_IN_VALUES = bytes({*range(32), 127} - {9})
# For larger bodies, a second write is cheaper than a copy.
_JOINED_BYTES = 16 * 1024
# Checked header names, as lines start with them. Headers that frame the body are never among them.
_known_starts: dict[bytes, bytes] = {}
_FRAMING = (b"content-length", b"transfer-encoding", b"connection")


class FastCycle(Exchange):
    """A cycle for responses with `Content-Length`, such as those of declared endpoints."""

    _held = b""

    async def send(self, message: ASGISendEvent) -> None:
        if self.flow.write_paused or self.disconnected or self.access_log:
            await super().send(message)
        elif message["type"] == "http.response.body" and self.response_started and not self.response_complete:
            self._send_body(message.get("body", b""), more_body=message.get("more_body", False))
        elif message["type"] == "http.response.start" and not self.response_started:
            self._hold_head(message["status"], message.get("headers", ()))

    def _hold_head(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        self.response_started = True
        self.waiting_for_100_continue = False
        lines: list[bytes] = []
        for name, value in (*self.default_headers, *headers):
            lines += (_known_starts.get(name) or self._line_start(name, value), value, b"\r\n")
        values = b"".join(lines[1::3])
        if len(values.translate(None, _NOT_IN_VALUES)) != len(values):
            raise RuntimeError("A header's value has a character that is not allowed in headers.")
        self._held = b"".join((STATUS_LINE[status], *lines, b"\r\n"))

    def _line_start(self, name: bytes, value: bytes) -> bytes:
        if _NAME.fullmatch(name) is None:
            raise RuntimeError(f"{name!r} is not a valid header name.")
        lower = name.lower()
        if lower == b"content-length":
            self.expected_content_length = int(value)
        start = lower + b": "
        if lower not in _FRAMING:
            _known_starts[name] = start
        return start

    def _send_body(self, body: bytes, *, more_body: bool) -> None:
        self.expected_content_length -= len(body)
        held, self._held = self._held, b""
        if len(body) <= _JOINED_BYTES:
            self.transport.write(held + body)
        else:
            self.transport.writelines((held, body))
        if not more_body:
            self.response_complete = True
            self.message_event.set()
            self.on_response()
