# SPDX-License-Identifier: Apache-2.0
"""Parses JSON of any size without its large values: it limits the nesting and cuts out long strings and arrays.

A full parse of a body of 20 MB would block the event loop for seconds and take hundreds of megabytes.
"""

import asyncio
import json
import re
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from fastapi_triton.core.errors import TooLargeError, UnreadableRequestError, shown
from fastapi_triton.endpoints.request_body.json_scanner import windows

# The limit of current Triton versions. Older ones crash at some ten thousand levels.
MAX_DEPTH = 100
# Bytes. Longer strings and arrays are cut.
_LONG = 1024
# The value of a cut string. No member that is checked may contain it.
CUT = "\x00"
_CUT_VALUE = rb'"\u0000"'
# JSON of up to this size, or of up to this size without its long strings, is parsed whole.
_SMALL_BYTES = 2048
_FEW_STRINGS = 100
# The limit of the text after cutting. It has room for names, shapes and parameters of some hundred tensors.
_MAX_OUTLINE_BYTES = 128 * 1024
# Quotation marks and brackets in small windows are read one by one; for large windows numpy is faster.
_SMALL_WINDOW_BYTES, _LARGE_WINDOW_BYTES = 512, 64 * 1024
# After this number of bytes, which take some milliseconds, the event loop serves other requests.
_BYTES_AT_ONCE = 256 * 1024
_MARK = re.compile(rb'["\[\]{}]')
_OTHER, _QUOTE, _OPEN, _CLOSE = range(4)
_KINDS = bytearray(256)
for _kind, _bytes in ((_QUOTE, b'"'), (_OPEN, b"[{"), (_CLOSE, b"]}")):
    for _byte in _bytes:
        _KINDS[_byte] = _kind
_MARKS = (b'"', b"[", b"]", b"{", b"}")
# The inside of a string or an array: the position of its first byte, and the one after its last byte.
_Span = tuple[int, int]
_Positions = npt.NDArray[np.int64]


async def outline(text: bytes, *, cut_depth: int) -> Any:
    """Parse JSON whose long strings, and long arrays at depth `cut_depth`, are replaced.

    A cut string is `CUT`, a cut array `[None]`. The outermost value has depth 1. Bytes that are not UTF-8 become lone
    surrogates.

    Raises:
        UnreadableRequestError: the text is not JSON, is nested more than `MAX_DEPTH` deep, or an object has a member
            twice, which parsers read in different ways.
        TooLargeError: the text is too large even without long strings and arrays.
    """
    text = without_long_strings(text)
    if is_plain(text):
        return parsed(text)
    text = _without(text, await _spans(text, cut_depth))
    if len(text) > _MAX_OUTLINE_BYTES:
        raise TooLargeError(
            f"The JSON has {len(text):,} bytes besides long strings and arrays of numbers; "
            f"at most {_MAX_OUTLINE_BYTES:,} are allowed. Send fewer tensors or parameters in one request.",
            code="too_many_elements",
        )
    return _decoded(text)


def parsed(text: bytes) -> Any:
    """Parse a text that `is_plain`. Raises the same errors as `outline`."""
    value = _canonical(text)
    return _decoded(text) if value is None else value


def _decoded(text: bytes) -> Any:
    try:
        return _DECODER.decode(text.decode("utf-8", "surrogateescape"))
    except (ValueError, RecursionError) as error:
        raise UnreadableRequestError(f"The body is not valid JSON: {shown(str(error))}.") from None


def is_plain(text: bytes) -> bool:
    """Whether the text can be parsed without an outline: it is small, and cannot be nested too deep."""
    return len(text) <= _SMALL_BYTES and text.count(b"[") + text.count(b"{") <= MAX_DEPTH


def without_long_strings(text: bytes) -> bytes:
    """Cut the long strings, if there are few strings and none ends with a backslash; else return the text unchanged."""
    if len(text) <= _SMALL_BYTES:
        return text
    parts: list[bytes] = []
    kept = at = 0
    for _ in range(_FEW_STRINGS):
        start = text.find(b'"', at)
        if start < 0:
            return b"".join((*parts, text[kept:]))
        at = text.find(b'"', start + 1) + 1
        if not at or text[at - 2 : at - 1] == b"\\":
            return text
        if at - start > _LONG:
            parts += (text[kept : start + 1], rb"\u0000")
            kept = at - 1
    return text


def _canonical(text: bytes) -> Any:
    """The value of JSON without spaces; None for any other text.

    Most clients send no spaces. orjson takes a fifth of the time of `json`, but drops one of two members of the same
    name; then the value written as JSON differs from the text.
    """
    if b"\\" in text and text.count(rb"\u0000") != text.count(_CUT_VALUE) - text.count(_CUT_VALUE + b":"):
        return None  # a name may contain NUL
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None  # `json` reports the cause
    return value if orjson.dumps(value) == text else None


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        if twice != CUT:
            raise UnreadableRequestError(f"The JSON has the member `{shown(twice)}` twice in one object.")
    if any(CUT in name for name in members):
        raise UnreadableRequestError("The JSON has a member whose name contains NUL or has more than 1,000 bytes.")
    return members


_DECODER = json.JSONDecoder(object_pairs_hook=_members)


def _without(text: bytes, spans: list[_Span]) -> bytes:
    """The text with the insides of these arrays and strings replaced. Spans may lie within other spans."""
    kept: list[bytes] = []
    at = 0
    for start, end in sorted(spans):
        if start >= at:
            kept += (text[at:start], b"null" if text[start - 1] == ord("[") else b"\\u0000")
            at = end
    return b"".join((*kept, text[at:]))


async def _spans(text: bytes, cut_depth: int) -> list[_Span]:
    """The insides of long strings, and of long arrays at depth `cut_depth`.

    Raises:
        UnreadableRequestError: the nesting is too deep, or a bracket or quotation mark is missing.
    """
    marks = _Marks(text, cut_depth)
    pause_at = _BYTES_AT_ONCE
    for at, window in windows(text, _SMALL_WINDOW_BYTES, marks=_MARKS, max_bytes=_LARGE_WINDOW_BYTES):
        if len(window) <= _SMALL_WINDOW_BYTES:
            marks.read_few(at, window)
        else:
            marks.read_many(at, window)
        if at > pause_at:
            pause_at = at + _BYTES_AT_ONCE
            await asyncio.sleep(0)
    if marks.depth or marks.is_in_string:
        raise UnreadableRequestError("The body is not valid JSON: it ends within a string, an array or an object.")
    return marks.spans


class _Marks:
    """Reads quotation marks and brackets window by window, and records the nesting depth and the spans to cut."""

    def __init__(self, text: bytes, cut_depth: int) -> None:
        self.spans: list[_Span] = []
        self.depth = 0
        self._text = text
        self._cut_depth = cut_depth
        self._string_at: int | None = None  # where the open string starts
        self._container_at: int | None = None  # where the open array or object at `cut_depth` starts

    @property
    def is_in_string(self) -> bool:
        return self._string_at is not None

    def read_few(self, start: int, window: bytes) -> None:
        for found in _MARK.finditer(window):
            mark, at = found[0], start + found.start()
            if mark == b'"':
                self._string_at = self._edge(self._string_at, at)
            elif not self.is_in_string:
                depth = self.depth + (1 if mark in b"[{" else -1)
                _require_depth(depth, depth)
                if self._cut_depth == max(depth, self.depth):
                    self._container_at = self._edge(self._container_at, at, only_arrays=True)
                self.depth = depth

    def read_many(self, start: int, window: bytes) -> None:
        kinds = np.frombuffer(window.translate(_KINDS), np.uint8)
        at = np.flatnonzero(kinds != _OTHER)
        kinds_there = kinds[at]
        is_quote = kinds_there == _QUOTE
        is_bracket = ~is_quote & ((np.cumsum(is_quote) + self.is_in_string) % 2 == 0)
        self._read_brackets(at[is_bracket] + start, kinds_there[is_bracket])
        self._string_at = self._edges(self._string_at, at[is_quote] + start)

    def _read_brackets(self, brackets: _Positions, kinds: npt.NDArray[np.uint8]) -> None:
        if not len(brackets):
            return
        opens = kinds == _OPEN
        depths = self.depth + np.cumsum(np.where(opens, 1, -1))
        _require_depth(depths.min(), depths.max())
        self.depth = int(depths[-1])
        is_edge = np.where(opens, depths == self._cut_depth, depths == self._cut_depth - 1)
        self._container_at = self._edges(self._container_at, brackets[is_edge], only_arrays=True)

    def _edges(self, open_at: int | None, edges: _Positions, *, only_arrays: bool = False) -> int | None:
        """Record the long spans between the alternating starts and ends. Returns the start that has no end yet."""
        if open_at is not None:
            edges = np.concatenate(([open_at], edges))
        num_pairs = len(edges) // 2
        starts, ends = edges[0 : 2 * num_pairs : 2], edges[1::2]
        is_long = ends - starts > _LONG
        for start, end in zip(starts[is_long].tolist(), ends[is_long].tolist(), strict=True):
            self._edge(start, end, only_arrays=only_arrays)
        return int(edges[-1]) if len(edges) % 2 else None

    def _edge(self, open_at: int | None, at: int, *, only_arrays: bool = False) -> int | None:
        """The same for one start or end."""
        if open_at is None:
            return at
        if at - open_at > _LONG and not (only_arrays and self._text[open_at] != ord("[")):
            self.spans.append((open_at + 1, at))
        return None


def _require_depth(least: int, most: int) -> None:
    if most > MAX_DEPTH:
        raise UnreadableRequestError(
            f"The JSON is nested more than {MAX_DEPTH} levels deep. Send flat lists; Triton reads them by their shape.",
            code="json_too_deep",
        )
    if least < 0:
        raise UnreadableRequestError("The body is not valid JSON: a bracket closes that was never opened.")
