# SPDX-License-Identifier: Apache-2.0
"""What a job needs of the endpoint that its request was sent to, whichever kind of endpoint that is."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

from starlette.requests import Request
from starlette.responses import Response

from fastapi_triton.endpoints.declared.endpoint import Listener

# Drawn when a request is accepted, where it has none, so that every run of it gives the same answer.
SEED_FIELD = "seed"
NO_SEED = (None, -1)


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that has been read and checked.

    `path` is where it was sent, and by which its endpoint is found again. `told` is the same for the same request,
    however it was written. `kept` is what the endpoint makes its work of, with the seed drawn. `media_type` is what its
    caller is answered in who waits.
    """

    path: str
    media_type: str
    told: Any
    kept: bytes


# The answer as JSON; raises what the endpoint would answer.
Work = Callable[[Listener], Awaitable[bytes]]


class JobEndpoint(Protocol):
    """An endpoint whose requests may become jobs."""

    async def asked(self, request: Request) -> Asked:
        """Read a request. Raises what the endpoint would answer to one that is wrong."""
        ...

    def work(self, kept: bytes) -> Work:
        """What a request that was kept is to do; called again where it was interrupted.

        Raises:
            GoneError: the endpoint has changed, and takes the request no more.
        """
        ...

    def reply(self, result: bytes, accept: str | None) -> Response:
        """A job's JSON answer, in the form that the caller accepts.

        Raises:
            NotAcceptableError: it is not to be had in any.
        """
        ...
