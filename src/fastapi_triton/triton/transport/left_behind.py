# SPDX-License-Identifier: Apache-2.0
"""Exchanges whose request is over before Triton is done: it left, or ran out of time, and `/infer` notices neither."""

import functools
from collections.abc import Callable

from fastapi_triton.core.slot import Place, current_place
from fastapi_triton.triton.transport.connection import Connection


class LeftBehind:
    """Each is read to its end, and keeps its request's place until then, or until its connection is gone."""

    def __init__(self, give_back: Callable[[Connection], None]) -> None:
        self._give_back = give_back
        self._connections: set[Connection] = set()

    def __contains__(self, connection: Connection) -> bool:
        return connection in self._connections

    def add(self, connection: Connection) -> None:
        """Nobody waits for this one's answer any more. Nothing is done where Triton does not work for a place."""
        place = current_place.get()
        if place is None or not connection.is_awaited:
            return
        place.hold()
        self._connections.add(connection)
        connection.leave(functools.partial(self._ended, connection, place))

    def abort(self) -> None:
        for connection in self._connections:
            connection.abort()

    def _ended(self, connection: Connection, place: Place) -> None:
        self._connections.discard(connection)
        is_answered = connection.has_whole_answer
        self._give_back(connection)
        place.give_back(is_answered=is_answered)
