# SPDX-License-Identifier: Apache-2.0
"""HTTP client of the endpoint that makes pictures: its description, and a picture with its progress."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson
import pybase64

from fastapi_triton.cli.generate import errors
from fastapi_triton.cli.generate.errors import GenerateError, NoServerError, NothingListensError
from fastapi_triton.core import sse_parser

# Statuses that reject this client, while the path may be right.
_REJECTED = (400, 401, 403, 429)
# By default a server that waits for a picture sends a heartbeat at least every 10 s.
TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=60)


@dataclass(frozen=True, slots=True)
class Queued:
    """A picture's position in the server's queue; 1 is the next. Without an estimate, the seconds until it are None."""

    position: int
    estimated_total_s: float | None


@dataclass(frozen=True, slots=True)
class StepProgress:
    """The progress of a picture."""

    step: int
    num_steps: int


@dataclass(frozen=True, slots=True)
class GeneratedPicture:
    """A finished picture: the file's bytes, its seed, and the parameters that made it."""

    content: bytes
    seed: int
    info: Mapping[str, Any]


class Client:
    """The endpoint `path` of the server at `url`."""

    def __init__(self, session: aiohttp.ClientSession, url: str, path: str) -> None:
        self.url = without_credentials(url)  # as shown to the user
        self._session = session
        self._endpoint = url + path

    async def describe(self) -> dict[str, Any]:
        """The endpoint's sizes, defaults, limits and versions.

        Raises:
            NoServerError: no server responds, or it has no such endpoint.
            GenerateError: the server returned another error.
        """
        try:
            if not self._endpoint.startswith(("http://", "https://")):
                raise aiohttp.InvalidURL(self.url)
            async with self._session.get(f"{self._endpoint}/describe") as response:
                description = _object(await response.read())
                if response.status == 200 and "defaults" in description:
                    return description
                if "code" in description and (response.status >= 500 or response.status in _REJECTED):
                    raise errors.of_problem(description, retry_after_s=response.headers.get("Retry-After"))
        except aiohttp.InvalidURL:
            raise errors.UsageError(f"--url: {self.url} is not a URL. Write it like http://localhost:8080.") from None
        except aiohttp.ClientConnectorError as error:
            reason = error.os_error.strerror or str(error)
            raise NothingListensError(f"No server responds at {self.url} ({reason}).") from None
        except (aiohttp.ClientError, TimeoutError) as error:
            reason = str(error) or type(error).__name__
            raise NoServerError(f"The server at {self.url} did not return an HTTP response ({reason}).") from None
        shown = without_credentials(self._endpoint)
        raise NoServerError(f"The server has no picture endpoint at {shown}. Check --url and --endpoint.")

    async def draw(
        self, fields: Mapping[str, Any], scribble: bytes
    ) -> AsyncGenerator[Queued | StepProgress | GeneratedPicture, None]:
        """Request one picture, and yield its progress and the result. Closing the generator early cancels the request.

        Raises:
            GenerateError: the server rejected the request, failed, or closed the connection.
        """
        body = orjson.dumps({**fields, "image": pybase64.b64encode(scribble).decode("ascii")})
        headers = {"Content-Type": "application/json", "Accept": sse_parser.MEDIA_TYPE}
        try:
            async with self._session.post(self._endpoint, data=body, headers=headers) as response:
                if response.content_type != sse_parser.MEDIA_TYPE:
                    raise errors.of_problem(
                        {"status": response.status, "detail": f"The server returned {response.status}."}
                        | _object(await response.read()),
                        retry_after_s=response.headers.get("Retry-After"),
                    )
                async with aclosing(sse_parser.parse(response.content.iter_any())) as events:
                    async for name, text in events:
                        data = _object(text)
                        if name == "error":
                            raise errors.of_problem(data, retry_after_s=data.get("retry_after_s"))
                        if name == "queued" and isinstance(data.get("position"), int):
                            yield Queued(data["position"], data.get("estimated_total_s"))
                        if name == "progress" and "num_steps" in data:
                            yield StepProgress(data["step"], data["num_steps"])
                        if name == "completed":
                            yield _picture(data)
                            return
        except TimeoutError:
            raise GenerateError(f"The server at {self.url} sent nothing for {TIMEOUT.sock_read} s.") from None
        except (aiohttp.ClientError, ValueError):  # the response was cut off
            pass
        raise GenerateError(
            f"The server at {self.url} closed the connection before the picture was complete. Nothing was written."
        )


def without_credentials(url: str) -> str:
    """The URL without its user name and password, which may be an API key."""
    scheme, separator, rest = url.rpartition("://")
    authority, slash, path = rest.partition("/")
    if "@" in path:  # or the password holds a slash
        authority, slash, path = path, "", ""
    return f"{scheme}{separator}{authority.rpartition('@')[2]}{slash}{path}"


def _picture(data: Mapping[str, Any]) -> GeneratedPicture:
    try:
        content = pybase64.b64decode(data["generated_image"], validate=True)
        return GeneratedPicture(content, int(data["seed"]), dict(data["info"]))
    except (KeyError, ValueError, TypeError) as error:
        raise GenerateError(
            f"The server's response cannot be read ({error!r}). Does the server have another version?"
        ) from None


def _object(text: bytes) -> dict[str, Any]:
    """The JSON object in the text; an empty one if it has none."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}
