# SPDX-License-Identifier: Apache-2.0
"""What a job needs of the endpoint that its request was sent to, whichever kind of endpoint that is."""

from dataclasses import dataclass
from typing import Any, Protocol

from starlette.requests import Request
from starlette.responses import Response

from fastapi_triton.endpoints.interfaces import ProgressListener


@dataclass(frozen=True, slots=True)
class JobRequest:
    """A request that has been read and checked.

    `path` is where it was sent, and by which its endpoint is found again. `values` are the same for the same request,
    however it was written. `stored` is what the endpoint serves the request from, with the seed drawn. `media_type` is
    the response's, for a client that waits.
    """

    path: str
    media_type: str
    values: Any
    stored: bytes


class JobEndpoint(Protocol):
    """An endpoint whose requests may become jobs."""

    async def read(self, request: Request) -> JobRequest:
        """Read a request. Raises the error that the endpoint would answer to an invalid one."""
        ...

    async def run(self, stored: bytes, listener: ProgressListener) -> bytes:
        """The JSON answer to a stored request; called again if the run was interrupted.

        Raises:
            GoneError: the endpoint has changed, and takes the request no more.
            FastAPITritonError: any other error that the endpoint would answer.
        """
        ...

    def reply(self, result: bytes, accept: str | None) -> Response:
        """A job's JSON answer, in the form that the client accepts.

        Raises:
            NotAcceptableError: it is not to be had in any.
        """
        ...
