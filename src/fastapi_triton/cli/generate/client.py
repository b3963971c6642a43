# SPDX-License-Identifier: Apache-2.0
"""The HTTP client of the endpoint that makes pictures: its description, and one picture with its progress."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson
import pybase64

from fastapi_triton.cli.generate import errors
from fastapi_triton.cli.generate.errors import GenerateError, NobodyAnswersError, NoServerError
from fastapi_triton.core import sse_parser

# Statuses that concern the client rather than the path.
_REFUSED = (400, 401, 403, 429)
# By default a server that waits for a picture sends a heartbeat at least every 10 s.
TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=60)


@dataclass(frozen=True, slots=True)
class Queued:
    """A picture's position in the server's queue; 1 is the next. The estimate is None if the server has none."""

    position: int
    estimated_wait_s: float | None


@dataclass(frozen=True, slots=True)
class StepProgress:
    """How far a picture is."""

    step: int
    num_steps: int


@dataclass(frozen=True, slots=True)
class GeneratedPicture:
    """A finished one: the file's bytes, its seed, and how it was made."""

    content: bytes
    seed: int
    info: Mapping[str, Any]


class Client:
    """The endpoint `path` of the server at `url`."""

    def __init__(self, session: aiohttp.ClientSession, url: str, path: str) -> None:
        self.url = without_credentials(url)  # as it is shown
        self._session = session
        self._endpoint = url + path

    async def describe(self) -> dict[str, Any]:
        """Sizes, defaults, limits, versions.

        Raises:
            NoServerError: nobody answers, or somebody else does.
            GenerateError: it cannot say, for now.
        """
        try:
            if not self._endpoint.startswith(("http://", "https://")):
                raise aiohttp.InvalidURL(self.url)
            async with self._session.get(f"{self._endpoint}/describe") as answer:
                description = _object(await answer.read())
                if answer.status == 200 and "defaults" in description:
                    return description
                if "code" in description and (answer.status >= 500 or answer.status in _REFUSED):
                    raise errors.of_problem(description, retry_after_s=answer.headers.get("Retry-After"))
        except aiohttp.InvalidURL:
            raise errors.UsageError(f"--url: {self.url} is no URL. One looks like http://localhost:8080.") from None
        except aiohttp.ClientConnectorError as error:
            reason = error.os_error.strerror or str(error)
            raise NobodyAnswersError(f"No server answers at {self.url} ({reason}).") from None
        except (aiohttp.ClientError, TimeoutError) as error:
            reason = str(error) or type(error).__name__
            raise NoServerError(f"The server at {self.url} cannot be asked ({reason}).") from None
        shown = without_credentials(self._endpoint)
        raise NoServerError(f"The server at {shown} makes no pictures. Check --url and --endpoint.")

    async def draw(
        self, fields: Mapping[str, Any], scribble: bytes
    ) -> AsyncGenerator[Queued | StepProgress | GeneratedPicture, None]:
        """One picture as it comes. Closing this early stops the work.

        Raises:
            GenerateError: the server refused or failed, or went away.
        """
        body = orjson.dumps({**fields, "image": pybase64.b64encode(scribble).decode("ascii")})
        headers = {"Content-Type": "application/json", "Accept": sse_parser.MEDIA_TYPE}
        try:
            async with self._session.post(self._endpoint, data=body, headers=headers) as answer:
                if answer.content_type != sse_parser.MEDIA_TYPE:
                    raise errors.of_problem(
                        {"status": answer.status, "detail": f"The server answers {answer.status}."}
                        | _object(await answer.read()),
                        retry_after_s=answer.headers.get("Retry-After"),
                    )
                async with aclosing(sse_parser.parse(answer.content.iter_any())) as events:
                    async for name, text in events:
                        data = _object(text)
                        if name == "error":
                            raise errors.of_problem(data, retry_after_s=data.get("retry_after_s"))
                        if name == "queued" and isinstance(data.get("position"), int):
                            yield Queued(data["position"], data.get("estimated_wait_s"))
                        if name == "progress" and "num_steps" in data:
                            yield StepProgress(data["step"], data["num_steps"])
                        if name == "completed":
                            yield _picture(data)
                            return
        except TimeoutError:
            raise GenerateError(f"The server at {self.url} has said nothing for {TIMEOUT.sock_read} s.") from None
        except (aiohttp.ClientError, ValueError):  # it is cut off
            pass
        raise GenerateError(f"The server at {self.url} went away before the picture was done. Nothing was written.")


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
        raise GenerateError(f"The server's answer cannot be read ({error!r}). Is it of another version?") from None


def _object(text: bytes) -> dict[str, Any]:
    """A JSON object; an empty one for anything else."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}
