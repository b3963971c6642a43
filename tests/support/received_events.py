# SPDX-License-Identifier: Apache-2.0
"""Server-sent events as a client receives them, comments included. One event's data is one line of JSON."""

import json
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx2


@dataclass(frozen=True, slots=True)
class ReceivedEvent:
    """One event; a comment has no name, and its text as data."""

    name: str
    data: Any


class _Parser:
    def __init__(self) -> None:
        self._name = ""

    def event(self, line: str) -> ReceivedEvent | None:
        """The event or comment that this line completes, if any."""
        if line.startswith(":"):
            return ReceivedEvent("", line.removeprefix(":").strip())
        if line.startswith("event:"):
            self._name = line.removeprefix("event:").strip()
        if line.startswith("data:"):
            return ReceivedEvent(self._name, json.loads(line.removeprefix("data:")))
        return None


async def events_of(response: httpx2.Response) -> AsyncIterator[ReceivedEvent]:
    """The events of a streamed response, as they arrive."""
    parser = _Parser()
    async for line in response.aiter_lines():
        if (event := parser.event(line)) is not None:
            yield event


def events_in(lines: Iterable[str]) -> Iterator[ReceivedEvent]:
    """The events in the lines of a response, as they arrive."""
    parser = _Parser()
    return (event for line in lines if (event := parser.event(line)) is not None)
