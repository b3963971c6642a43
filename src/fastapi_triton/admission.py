# SPDX-License-Identifier: Apache-2.0
"""How much may be at Triton at once; the rest is turned away at the door."""

from collections.abc import Iterator
from contextlib import contextmanager

from fastapi_triton.errors import OverloadedError


class Admission:
    """A bound on requests in flight, for every way in. It holds for one process."""

    def __init__(self, max_in_flight: int) -> None:
        self.max_in_flight = max_in_flight
        self.in_flight = 0

    def require_places(self, count: int = 1) -> None:
        """Refuse at once what would be refused in the end, before its body is read.

        Raises:
            OverloadedError: there are not so many left.
        """
        if self.in_flight + count > self.max_in_flight:
            raise OverloadedError(
                f"{self.in_flight} requests are in flight, and no more are taken. Try again later.",
                retry_after_s=1.0,
            )

    @contextmanager
    def slot(self, count: int = 1) -> Iterator[None]:
        """Hold so many places while the request is at Triton; all of them, or none.

        Raises:
            OverloadedError: there are not so many left.
        """
        self.require_places(count)
        self.in_flight += count
        try:
            yield
        finally:
            self.in_flight -= count
