# SPDX-License-Identifier: Apache-2.0
"""Parses a stream of server-sent events whose data is one line each, as Triton and this frontend write them."""

from collections.abc import AsyncGenerator, AsyncIterable

MEDIA_TYPE = "text/event-stream"


async def parse(chunks: AsyncIterable[bytes]) -> AsyncGenerator[tuple[str, bytes], None]:
    """The name and the data of each event, as soon as it is complete. An event without a name has an empty one.

    Raises:
        ValueError: the stream has invalid events, or ends within an event.
    """
    pieces: list[bytes] = []  # of an incomplete line; joined once, since the line of a picture is megabytes long
    name = ""
    async for chunk in chunks:
        start = 0
        while (end := chunk.find(b"\n", start)) >= 0:
            pieces.append(chunk[start:end])
            line = b"".join(pieces)
            pieces.clear()
            start = end + 1
            if line.startswith(b"data:"):
                yield name, line.removeprefix(b"data:")
            elif line.startswith(b"event:"):
                name = line.removeprefix(b"event:").strip().decode("utf-8", "replace")
            elif not (stripped := line.rstrip(b"\r")):  # the end of an event
                name = ""
            elif not stripped.startswith((b":", b"id:", b"retry:")):
                raise ValueError("its stream does not consist of server-sent events")
        pieces.append(chunk[start:])
    if any(pieces):
        raise ValueError("its stream ends within an event")
