# SPDX-License-Identifier: Apache-2.0
"""The lines of a response's head, checked: a header from outside must never break the response."""

import re
from collections.abc import Iterable

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_NOT_IN_VALUES = bytes({*range(32), 127} - {9})
# Header names as they begin a line; apps use few, and always the same. Those that frame the answer are never in it.
known_starts: dict[bytes, bytes] = {}
_MAX_LINE_STARTS = 1000
FRAMING = {name: name + b": " for name in (b"content-length", b"transfer-encoding", b"connection")}
END_OF_LINE = b"\r\n"
# What uvicorn puts before an app's own headers, a new list every second, and the lines that it makes.
_defaults: tuple[list[tuple[bytes, bytes]], bytes] = ([], b"")


def line_start(name: bytes) -> bytes:
    """The beginning of a header's line.

    Raises:
        RuntimeError: this is no header name.
    """
    if _NAME.fullmatch(name) is None:
        raise RuntimeError(f"{name!r} is not a valid header name.")
    lower = name.lower()
    start = lower + b": "
    if lower not in FRAMING and len(known_starts) < _MAX_LINE_STARTS:
        known_starts[name] = start
    return start


def default_lines(headers: list[tuple[bytes, bytes]]) -> bytes:
    """The lines of the server's own headers."""
    global _defaults
    known, lines = _defaults
    if known is not headers:
        lines = b"".join(part for name, value in headers for part in (line_start(name), value, END_OF_LINE))
        _defaults = (headers, lines)
    return lines


def require_values(values: list[bytes]) -> None:
    """Raise if a header's value would break the response, such as an unchecked value from a client."""
    together = b"".join(values)
    if len(together.translate(None, _NOT_IN_VALUES)) != len(together):
        raise RuntimeError("A header's value has a character that is not allowed in headers.")


def closing_answer(
    status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes, defaults: list[tuple[bytes, bytes]]
) -> bytes:
    """A whole answer, its length among the headers, after which the connection closes."""
    lines = [
        part for name, value in headers if name != b"connection" for part in (line_start(name), value, END_OF_LINE)
    ]
    require_values(lines[1::3])
    return b"".join((STATUS_LINE[status], default_lines(defaults), *lines, b"connection: close\r\n\r\n", body))
