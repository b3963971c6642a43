# SPDX-License-Identifier: Apache-2.0
"""Quotes and brackets of large JSON, found by numpy in pieces: how deep it nests, and where its large values are."""

import asyncio

import numpy as np
import numpy.typing as npt

from fastapi_triton.core.errors import UnreadableRequestError

# The limit of current Triton versions. Older ones crash at some ten thousand levels.
MAX_DEPTH = 100
# Bytes. Longer strings and arrays are cut.
LONG = 1024
# The inside of a string or an array: from its first byte to the one after its last.
Span = tuple[int, int]
Positions = npt.NDArray[np.int64]

_PIECE_BYTES = 64 * 1024
# After this number of pieces the event loop serves other requests. A piece takes three milliseconds at most.
_PIECES_AT_ONCE = 4
_OTHER, _QUOTE, _BACKSLASH, _OPEN, _CLOSE = range(5)
_KINDS = bytearray(256)
for _kind, _bytes in ((_QUOTE, b'"'), (_BACKSLASH, b"\\"), (_OPEN, b"[{"), (_CLOSE, b"]}")):
    for _byte in _bytes:
        _KINDS[_byte] = _kind


def too_deep() -> UnreadableRequestError:
    return UnreadableRequestError(
        f"The JSON is nested more than {MAX_DEPTH} levels deep. Send flat lists; Triton reads them by their shape.",
        code="json_too_deep",
    )


def unbalanced() -> UnreadableRequestError:
    return UnreadableRequestError("The body is not valid JSON: a bracket closes that was never opened.")


def incomplete() -> UnreadableRequestError:
    return UnreadableRequestError("The body is not valid JSON: it ends within a string, an array or an object.")


async def spans_of_many(text: bytes, cut_depth: int) -> list[Span]:
    """The insides of long strings, and of long arrays at depth `cut_depth`.

    Raises:
        UnreadableRequestError: it nests too deep, or a bracket or quote is missing.
    """
    marks = _Marks(text, cut_depth)
    for number, start in enumerate(range(0, len(text), _PIECE_BYTES)):
        marks.read(start)
        if number % _PIECES_AT_ONCE == _PIECES_AT_ONCE - 1:
            await asyncio.sleep(0)
    if marks.depth or marks.is_in_string:
        raise incomplete()
    return marks.spans


class _Marks:
    """Reads a text piece by piece, in order."""

    def __init__(self, text: bytes, cut_depth: int) -> None:
        self.spans: list[Span] = []
        self.depth = 0
        self._text = text
        self._cut_depth = cut_depth
        self._is_backslash_left = False  # an odd number of them ends the last piece
        self._string_start: list[int] = []  # of the string that the last piece left open, if any
        self._container_start: list[int] = []  # the same of an array or object at `cut_depth`

    @property
    def is_in_string(self) -> bool:
        return bool(self._string_start)

    def read(self, start: int) -> None:
        kinds = np.frombuffer(self._text[start : start + _PIECE_BYTES].translate(_KINDS), np.uint8)
        at = np.flatnonzero(kinds)
        kinds_there = kinds[at]
        quotes = self._unescaped(at[kinds_there == _QUOTE], at[kinds_there == _BACKSLASH], len(kinds))
        is_bracket = kinds_there >= _OPEN
        brackets = at[is_bracket]
        num_quotes_before = np.searchsorted(quotes, brackets) + self.is_in_string
        is_outside = num_quotes_before % 2 == 0
        self._read_brackets(brackets[is_outside] + start, kinds_there[is_bracket][is_outside])
        self._string_start = self._pair(self._string_start, quotes + start)

    def _unescaped(self, quotes: Positions, backslashes: Positions, length: int) -> Positions:
        """Those quotes that do not follow an odd number of backslashes."""
        is_escaped = np.zeros(length + 1, bool)
        is_escaped[0] = self._is_backslash_left
        if len(backslashes):
            index = np.arange(len(backslashes))
            begins = np.ones(len(backslashes), bool)
            begins[1:] = np.diff(backslashes) != 1
            first = np.maximum.accumulate(np.where(begins, index, 0))
            num = index - first + 1
            if self._is_backslash_left and backslashes[0] == 0:
                num[first == 0] += 1
            is_escaped[backslashes[num % 2 == 1] + 1] = True
            if backslashes[0] == 0:
                is_escaped[0] = False
        self._is_backslash_left = bool(is_escaped[length])
        return quotes[~is_escaped[quotes]]

    def _read_brackets(self, brackets: Positions, kinds: npt.NDArray[np.uint8]) -> None:
        if not len(brackets):
            return
        opens = kinds == _OPEN
        depths = self.depth + np.cumsum(np.where(opens, 1, -1))
        if depths.max() > MAX_DEPTH:
            raise too_deep()
        if depths.min() < 0:
            raise unbalanced()
        self.depth = int(depths[-1])
        is_edge = np.where(opens, depths == self._cut_depth, depths == self._cut_depth - 1)
        self._container_start = self._pair(self._container_start, brackets[is_edge], only_arrays=True)

    def _pair(self, left: list[int], edges: Positions, *, only_arrays: bool = False) -> list[int]:
        """Record long spans between starts and ends, which alternate. Returns the start that has no end yet."""
        if left:
            edges = np.concatenate((np.array(left), edges))
        num_pairs = len(edges) // 2
        starts, ends = edges[0 : 2 * num_pairs : 2], edges[1::2]
        is_long = ends - starts > LONG
        for start, end in zip(starts[is_long].tolist(), ends[is_long].tolist(), strict=True):
            if not only_arrays or self._text[start] == ord("["):
                self.spans.append((start + 1, end))
        return [int(edges[-1])] if len(edges) % 2 else []
