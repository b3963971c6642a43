# SPDX-License-Identifier: Apache-2.0
"""Server-sent events are parsed from chunks of any size; invalid data raises an error."""

import gzip
import json
from collections.abc import AsyncIterator

import pytest

from fastapi_triton.core import sse_parser


async def in_pieces(data: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
async def test_events_are_parsed_from_chunks_of_any_size(size: int) -> None:
    stream = b': a comment\n\ndata: {"a":1}\n\nevent: x\ndata:{"b":"\xc3\xa4"}\r\n\r\n\n'
    found = [(name, json.loads(data)) async for name, data in sse_parser.parse(in_pieces(stream, size))]
    assert found == [("", {"a": 1}), ("x", {"b": "ä"})]


@pytest.mark.parametrize(
    "rest",
    [
        b'data: {"cut": off',
        b"<html>\n</html>\n",
        gzip.compress(b'data: {"a":1}\n\n', mtime=0),
        b"{}",
        b'{"error":"x"}\n',
    ],
)
async def test_invalid_and_incomplete_events_raise_an_error(rest: bytes) -> None:
    events = sse_parser.parse(in_pieces(b'data: {"a":1}\n\n' + rest, 7))
    assert json.loads((await anext(events))[1]) == {"a": 1}
    with pytest.raises(ValueError, match="its stream"):
        await anext(events)


async def test_an_event_is_yielded_as_soon_as_its_line_ends() -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b'data: {"a":1}\n'
        raise AssertionError("read more than the first event needs")

    assert await anext(sse_parser.parse(chunks())) == ("", b' {"a":1}')
