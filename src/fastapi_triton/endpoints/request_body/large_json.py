# SPDX-License-Identifier: Apache-2.0
"""Rejects large JSON bodies whose Python objects would take many times the memory of the body.

Pictures and tensors are ASCII base64, which takes one byte a character. Other text, long member names and very many
texts take more, so they are limited.
"""

import re
from collections.abc import Container

from pydantic_core import from_json

from fastapi_triton.core.errors import FieldProblem, TooLargeError, pointer, shown
from fastapi_triton.endpoints.request_body.json_scanner import END_OF_NAME, windows

# Bodies of up to this size are not checked, because their objects cannot take much memory.
UNCHECKED_BYTES = 1024 * 1024
DEFAULT_MAX_TEXT_BYTES = 4 * 1024 * 1024
# A Python string of a few characters takes 50 bytes, and so does Triton's copy.
MAX_TEXTS = 400_000
MAX_NAME_BYTES = 64 * 1024
# The bytes that are read at once: other threads can run in between, and they fit into the processor's cache.
_WINDOW_BYTES = 32 * 1024
# The member's name before its value, searched in the last bytes before the value.
_NAME = re.compile(rb'"(?:[^"\\]|\\.)*"(?=[ \t\r\n]*:[ \t\r\n]*\Z)')
_NAME_BYTES = 1000


def require_cheap(body: bytes, max_text_bytes: int, long_names: Container[str] | None = None) -> None:
    """Reject a large JSON body before it is parsed, if its strings would take much memory.

    Args:
        body: JSON. The parser reports invalid JSON.
        max_text_bytes: the limit for text that Python may store with up to 4 bytes a character.
        long_names: the members that may hold texts longer than `UNCHECKED_BYTES`. None: all.

    Raises:
        TooLargeError: it has too much text that is not ASCII, too many texts, or a text or name that is too long.
    """
    if len(body) > UNCHECKED_BYTES:
        _Strings(body, max_text_bytes, long_names).check()


class _Strings:
    """The strings of a JSON text, found in windows of bytes.

    Strings that cross the end of a window are checked one by one; all strings within a window count together.
    """

    def __init__(self, body: bytes, max_text_bytes: int, long_names: Container[str] | None) -> None:
        self._body = body
        self._max_text_bytes = max_text_bytes
        self._long_names = long_names
        # The bytes of strings that are not plain ASCII, and the number of quotation marks.
        self._num_wide = self._num_quotes = 0
        # The last quotation mark, and whether the text after it is wide so far.
        self._quote_at = 0
        self._is_wide = False

    def check(self) -> None:
        for at, window in windows(self._body, _WINDOW_BYTES):
            self._read(at, window)
        self._count_wide(len(self._body) - self._quote_at if self._is_wide else 0)

    def _read(self, at: int, window: bytes) -> None:
        first = window.find(b'"')
        if first < 0:
            self._is_wide = self._is_wide or _is_wide(window)
            return
        self._end(at + first, is_wide=self._is_wide or _is_wide(window[:first]))
        last = window.rfind(b'"')
        # If only known fields may hold long texts, the others are short and few, so all of them may count as wide.
        if self._long_names is not None or _is_wide(window[first:last]):
            self._count_wide(last - first)
        self._num_quotes += window.count(b'"')
        if self._num_quotes > 2 * MAX_TEXTS:
            raise TooLargeError(
                f"The body's JSON holds more than {MAX_TEXTS:,} texts. Send fewer at once.",
                code="too_many_elements",
            )
        self._quote_at, self._is_wide = at + last, _is_wide(window[last:])

    def _end(self, at: int, *, is_wide: bool) -> None:
        """End the string that crossed the window's end, if there is one."""
        length = at - self._quote_at
        if self._num_quotes % 2 and length > MAX_NAME_BYTES:
            if END_OF_NAME.match(self._body, at):
                raise TooLargeError(
                    f"A member's name in the body's JSON has {length:,} bytes; the limit is {MAX_NAME_BYTES:,}.",
                    code="name_too_long",
                )
            if length > UNCHECKED_BYTES:
                self._require_long_name(length)
        if is_wide:
            self._count_wide(length)

    def _require_long_name(self, length: int) -> None:
        """Reject a long text in another field here: the errors of pydantic would hold two further copies of it."""
        if self._long_names is None:
            return
        found = _NAME.search(self._body[max(0, self._quote_at - _NAME_BYTES) : self._quote_at])
        try:
            name = from_json(found[0]) if found else ""
        except ValueError:
            name = ""
        if name not in self._long_names:
            detail = f"`{shown(name)}`: its text of {length:,} bytes is too long for this field. Send less text."
            problems = [FieldProblem(pointer((name,) if name else ()), "text_too_long", detail)]
            raise TooLargeError(detail, code="text_too_long", problems=problems)

    def _count_wide(self, num_bytes: int) -> None:
        self._num_wide += num_bytes
        if self._num_wide > self._max_text_bytes:
            raise TooLargeError(
                f"The body's JSON holds more than {self._max_text_bytes:,} bytes of names, or of texts with characters "
                "outside ASCII or \\u escapes. Send less text, and pictures and arrays as base64.",
                code="too_much_text",
            )


def _is_wide(text: bytes) -> bool:
    """Whether Python may store it with more than a byte a character. Doubled backslashes were replaced before."""
    return not text.isascii() or (b"\\" in text and b"\\u" in text)
