# SPDX-License-Identifier: Apache-2.0
"""The interface of an endpoint for jobs."""

from dataclasses import dataclass
from typing import Any, Protocol

from starlette.requests import Request
from starlette.responses import Response

from fastapi_triton.endpoints.interfaces import ProgressListener


@dataclass(frozen=True, slots=True)
class JobRequest:
    """A request that has been read and checked.

    `path` identifies its endpoint. `values` are equal for equal requests, even if their bodies are written differently.
    `stored` is the request as it is stored and run later, with a drawn seed. `media_type` is the type of the response,
    for a client that waits.
    """

    path: str
    media_type: str
    values: Any
    stored: bytes


class JobEndpoint(Protocol):
    """An endpoint whose requests may become jobs."""

    async def read(self, request: Request) -> JobRequest:
        """Read and check a request. Raises the endpoint's own error for an invalid one."""
        ...

    async def run(self, stored: bytes, listener: ProgressListener) -> bytes:
        """The JSON response to a stored request. It is called again if a run was interrupted.

        Raises:
            GoneError: the endpoint has changed and no longer accepts the request, or no longer exists.
            FastAPITritonError: any other error of the endpoint.
        """
        ...

    def reply(self, result: bytes, accept: str | None) -> Response:
        """The response with a job's JSON result, in a format that the client accepts.

        Raises:
            NotAcceptableError: the client accepts none of the possible formats.
        """
        ...
