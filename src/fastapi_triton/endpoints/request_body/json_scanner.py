# SPDX-License-Identifier: Apache-2.0
"""Reads unparsed JSON window by window, with the escapes in strings replaced."""

import re
from collections.abc import Iterator, Sequence

# The end of a member's name. It also matches within strings that have escaped quotation marks.
END_OF_NAME = re.compile(rb'"[ \t\r\n]*:')
# The bytes that are searched at once for several marks: they fit into the processor's cache.
_FAR_BYTES = 64 * 1024
_GROWTH = 8


def windows(
    text: bytes, num_bytes: int, *, marks: Sequence[bytes] = (), max_bytes: int = 0
) -> Iterator[tuple[int, bytes]]:
    """The text in windows of about `num_bytes`, each with its position; no window ends within an escape.

    Escaped quotation marks and backslashes are replaced. So each remaining quotation mark begins or ends a string, and
    each remaining backslash begins another escape. With `marks`, bytes before the next mark may be skipped, and windows
    grow to `max_bytes` where marks are frequent.
    """
    size = num_bytes
    at = _next_of(marks, text, 0)
    while at < len(text):
        window = text[at : at + size]
        if b"\\" in window:
            if (len(window) - len(window.rstrip(b"\\"))) % 2:
                window = text[at : at + size + 1]
            window = window.replace(b"\\\\", b"__").replace(b'\\"', b"__")
        yield at, window
        end = at + len(window)
        at = _next_of(marks, text, end)
        size = min(_GROWTH * size, max_bytes) if at - end < num_bytes < max_bytes else num_bytes


def _next_of(marks: Sequence[bytes], text: bytes, at: int) -> int:
    """The position of the next mark, or of a backslash; without `marks`, `at` itself."""
    while marks and at < len(text):
        end = at + _FAR_BYTES
        found = [where for mark in (*marks, b"\\") if (where := text.find(mark, at, end)) >= 0]
        if found:
            return min(found)
        at = end
    return at
