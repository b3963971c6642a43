# SPDX-License-Identifier: Apache-2.0
"""Checks that JSON parsers omit (repeated members, NaN in fields of any type), and clear messages for invalid JSON."""

import gc
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

from pydantic_core import from_json

from fastapi_triton.core.errors import TooLargeError, UnreadableRequestError, invalid_field, shown
from fastapi_triton.endpoints.request_body.json_scanner import END_OF_NAME

MAX_MEMBERS = 100_000
# Shorter bodies cannot have more members.
_LEAST_BYTES = 4 * MAX_MEMBERS
# Up to this number, colons are searched one by one, which takes a tenth of the time of counting all.
_FEW_COLONS = 100

# One half of a surrogate pair without the other: JSON's grammar allows it, UTF-8 and pydantic do not.
_LONE_SURROGATE = re.compile(
    rb"\\u(d[89ab][0-9a-f]{2})(?!\\ud[c-f][0-9a-f]{2})|(?<!\\ud[89ab][0-9a-f]{2})\\u(d[c-f][0-9a-f]{2})", re.IGNORECASE
)
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_UTF_16 = (b"\xff\xfe", b"\xfe\xff", b"\x00")


def parse(body: bytes) -> Any:
    """JSON as Python objects. The number of members is limited, because parsing blocks the event loop and all threads.

    Raises:
        UnreadableRequestError: it is not JSON.
        TooLargeError: its objects have too many members.
    """
    require_few_members(body)
    try:
        with gc_paused():
            return from_json(body, cache_strings="keys")
    except ValueError as error:
        raise unreadable(body, str(error)) from None


def require_few_members(body: bytes) -> None:
    """Reject JSON whose objects have very many members, because a member takes ten times as long as a number.

    Raises:
        TooLargeError: they have more than `MAX_MEMBERS`.
    """
    if (
        len(body) > _LEAST_BYTES
        and body.count(b":") > MAX_MEMBERS
        and any(islice(END_OF_NAME.finditer(body), MAX_MEMBERS, None))
    ):
        raise TooLargeError(
            f"The body's JSON objects have more than {MAX_MEMBERS:,} members. Send fewer objects, or lists instead.",
            code="too_many_elements",
        )


@contextmanager
def gc_paused() -> Iterator[None]:
    """Pause the garbage collector, which would scan half a million new lists again and again. They have no cycles."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def unreadable(body: bytes, message: str) -> UnreadableRequestError:
    """The error for a body that is not JSON; `message` is the parser's."""
    return UnreadableRequestError(f"The body is not JSON: {_reason(body, message)}.", code="invalid_json")


def _reason(body: bytes, message: str) -> str:
    if not body:
        return "it is empty"
    if body.startswith(_BYTE_ORDER_MARK):
        return "it begins with a byte order mark; send UTF-8 without it"
    if body.startswith(_UTF_16) or body[1:2] == b"\x00":
        return "it is UTF-16 or UTF-32; send UTF-8"
    message = message.removeprefix("Invalid JSON: ").replace("EOF while parsing", "it ends within")
    message = message.replace("recursion limit exceeded", "it nests too deep")
    if "hex escape" in message and (found := _LONE_SURROGATE.search(body)):
        half = (found[1] or found[2]).decode("ascii")
        return (
            f"\\u{half} at byte {found.start()} is one half of a surrogate pair without the other; send both halves, "
            "or the character itself as UTF-8"
        )
    if "unicode code point" in message:
        return f"{message}: the text is not UTF-8"
    if "number out of range" in message:
        return f"{message}: it has more than 4,300 digits"
    return message


def require_unique_members(body: bytes, num_members: int) -> None:
    """Reject objects that have a member twice. Parsers silently keep the last one.

    Args:
        body: valid JSON.
        num_members: the number of members of the parsed objects. If the text has no more, it is not parsed again.

    Raises:
        InvalidRequestError: an object has a member twice.
    """
    if not _has_more_colons(body, num_members) or len(END_OF_NAME.findall(body)) <= num_members:
        return
    with gc_paused():
        json.loads(body, object_pairs_hook=_unique, parse_int=len, parse_float=len, parse_constant=len)


def _unique(pairs: Sequence[tuple[str, Any]]) -> None:
    seen: set[str] = set()
    for name, _ in pairs:
        if name in seen:
            raise invalid_field(name, "repeated_field", f"`{shown(name)}` was sent more than once. Send it once.")
        seen.add(name)


def _has_more_colons(body: bytes, num: int) -> bool:
    """Whether there are more colons than `num`. If not, no member can occur twice."""
    if num > _FEW_COLONS:
        return body.count(b":") > num
    at = -1
    for _ in range(num + 1):
        at = body.find(b":", at + 1)
        if at < 0:
            return False
    return True


def num_members(value: Any) -> int:
    """The number of members of all objects in a JSON value."""
    num, left = 0, [value]
    while left:
        each = left.pop()
        if isinstance(each, dict):
            num += len(each)
            left += each.values()
        elif isinstance(each, list):
            left += each
    return num


def require_finite(values: Mapping[str, Any]) -> None:
    """Reject fields that hold NaN, Infinity or a number beyond float64, in lists and objects too.

    Raises:
        InvalidRequestError: a field holds such a number.
    """
    for name, value in values.items():
        if _holds_non_finite(value):
            detail = f"`{shown(name)}` holds NaN, Infinity or a number outside ±1.8e308. Send finite numbers."
            raise invalid_field(name, "not_finite", detail)


def _holds_non_finite(value: Any) -> bool:
    """Whether a JSON value has NaN or an infinity at any depth."""
    left = [value]
    while left:
        each = left.pop()
        if isinstance(each, dict):
            left += each.values()
        elif isinstance(each, list):
            left += each
        elif isinstance(each, float) and not math.isfinite(each):
            return True
    return False
