# SPDX-License-Identifier: Apache-2.0
"""JSON of any size, parsed without its large values: nesting is bounded first, long strings and arrays are cut out.

A full parse of a body of 20 MB would block the event loop for seconds and take hundreds of megabytes.
"""

import json
import re
from typing import Any

import orjson

from fastapi_triton.app.triton_proxy.json_marks import (
    LONG,
    MAX_DEPTH,
    Span,
    incomplete,
    spans_of_many,
    too_deep,
    unbalanced,
)
from fastapi_triton.core.errors import TooLargeError, UnreadableRequestError, shown

# The value of a cut string. No member that is checked may contain it.
CUT = "\x00"
_CUT_VALUE = rb'"\u0000"'
# A text of up to this size is parsed whole; a larger one if it is as small without its long strings.
_SMALL_BYTES = 2048
_FEW_STRINGS = 100
# The limit of the text after cutting: names, shapes and parameters of some hundred tensors.
_MAX_OUTLINE_BYTES = 128 * 1024
# Up to this number, quotes and brackets are visited one by one; numpy is faster for more.
_FEW_MARKS = 1000
_NEAR_BYTES, _FAR_BYTES = 256, 64 * 1024
_MARK = re.compile(rb'["\[\]{}]')
_MARKS = (b'"', b"[", b"]", b"{", b"}")
_QUOTE, _OPEN_ARRAY, _OPEN_OBJECT = b'"[{'
_MAX_BACKSLASHES = 32


async def outline(text: bytes, *, cut_depth: int) -> Any:
    """Parse JSON whose long strings, and long arrays at depth `cut_depth`, are replaced.

    A cut string is `CUT`, a cut array `[None]`. The outermost value has depth 1. Bytes that are not UTF-8 become lone
    surrogates.

    Raises:
        UnreadableRequestError: not JSON, nested more than `MAX_DEPTH` deep, or an object names a member twice, which
            parsers read in different ways.
        TooLargeError: there is too much besides long strings and arrays.
    """
    text = without_long_strings(text)
    if is_plain(text):
        return parsed(text)
    spans = _spans_of_few(text, cut_depth)
    if spans is None:
        spans = await spans_of_many(text, cut_depth)
    text = _without(text, spans)
    if len(text) > _MAX_OUTLINE_BYTES:
        raise TooLargeError(
            f"The JSON has {len(text):,} bytes besides long strings and arrays of numbers; "
            f"at most {_MAX_OUTLINE_BYTES:,} are allowed. Send fewer tensors or parameters in one request.",
            code="too_many_elements",
        )
    return _decoded(text)


def parsed(text: bytes) -> Any:
    """Parse a text that `is_plain`. Raises what `outline` raises."""
    told = _canonical(text)
    return _decoded(text) if told is None else told


def _decoded(text: bytes) -> Any:
    try:
        return _DECODER.decode(text.decode("utf-8", "surrogateescape"))
    except (ValueError, RecursionError) as error:
        raise UnreadableRequestError(f"The body is not valid JSON: {shown(str(error))}.") from None


def is_plain(text: bytes) -> bool:
    """Whether it can be parsed as it is: it is small, and cannot be nested too deep."""
    return len(text) <= _SMALL_BYTES and text.count(b"[") + text.count(b"{") <= MAX_DEPTH


def without_long_strings(text: bytes) -> bytes:
    """The text with its long strings cut, if it has few strings and no escapes; else the text as it is."""
    if len(text) <= _SMALL_BYTES or b"\\" in text:
        return text
    parts: list[bytes] = []
    kept = at = 0
    for _ in range(_FEW_STRINGS):
        start = text.find(b'"', at)
        if start < 0:
            return b"".join((*parts, text[kept:]))
        at = text.find(b'"', start + 1) + 1
        if not at:
            return text
        if at - start > LONG:
            parts += (text[kept : start + 1], rb"\u0000")
            kept = at - 1
    return text


def _canonical(text: bytes) -> Any:
    """The value of a text that is JSON without spaces; None for any other text.

    Most clients write it so. orjson takes a fifth of the time, but of a member that is there twice it drops one.
    """
    if b"\\" in text and text.count(rb"\u0000") != text.count(_CUT_VALUE) - text.count(_CUT_VALUE + b":"):
        return None  # a name may contain NUL
    try:
        told = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None  # the other parser says why
    return told if orjson.dumps(told) == text else None


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        if twice != CUT:
            raise UnreadableRequestError(f"The JSON names the member `{shown(twice)}` twice in one object.")
    if any(CUT in name for name in members):
        raise UnreadableRequestError("The JSON has a member whose name contains NUL or is very long.")
    return members


_DECODER = json.JSONDecoder(object_pairs_hook=_members)


def _without(text: bytes, spans: list[Span]) -> bytes:
    """The text with the insides of these arrays and strings replaced; what lies within another span goes with it."""
    kept: list[bytes] = []
    at = 0
    for start, end in sorted(spans):
        if start >= at:
            kept += (text[at:start], b"null" if text[start - 1] == _OPEN_ARRAY else b"\\u0000")
            at = end
    return b"".join((*kept, text[at:]))


def _spans_of_few(text: bytes, cut_depth: int) -> list[Span] | None:
    """The spans to cut, found one by one; None: there are too many quotes and brackets for that."""
    spans: list[Span] = []
    open_at: list[int] = []
    at = 0
    for _ in range(_FEW_MARKS):
        at = _next_mark(text, at)
        if at == len(text):
            if open_at:
                raise incomplete()
            return spans
        code = text[at]
        if code == _QUOTE:
            end = _end_of_string(text, at)
            if end is None:
                return None
            if end - at > LONG:
                spans.append((at + 1, end))
            at = end
        elif code in (_OPEN_ARRAY, _OPEN_OBJECT):
            open_at.append(at)
            if len(open_at) > MAX_DEPTH:
                raise too_deep()
        else:
            spans += _closed(text, open_at, at, cut_depth)
        at += 1
    return None


def _closed(text: bytes, open_at: list[int], at: int, cut_depth: int) -> list[Span]:
    """Close the innermost array or object. Returns its inside if it is to be cut."""
    if not open_at:
        raise unbalanced()
    start = open_at.pop()
    is_cut = len(open_at) == cut_depth - 1 and at - start > LONG and text[start] == _OPEN_ARRAY
    return [(start + 1, at)] if is_cut else []


def _next_mark(text: bytes, at: int) -> int:
    """The position of the next quote or bracket; the text's length if there is none."""
    near = _MARK.search(text, at, at + _NEAR_BYTES)
    if near is not None:
        return near.start()
    while at < len(text):
        found = [where for mark in _MARKS if (where := text.find(mark, at, at + _FAR_BYTES)) >= 0]
        if found:
            return min(found)
        at += _FAR_BYTES
    return len(text)


def _end_of_string(text: bytes, start: int) -> int | None:
    """The position of the quote that ends the string at `start`; None: it has too many escapes."""
    end = start
    for _ in range(_FEW_MARKS):
        end = text.find(b'"', end + 1)
        if end < 0:
            raise incomplete()
        before = text[max(start + 1, end - _MAX_BACKSLASHES) : end]
        num_backslashes = len(before) - len(before.rstrip(b"\\"))
        if num_backslashes == _MAX_BACKSLASHES:
            return None
        if num_backslashes % 2 == 0:
            return end
    return None
