# SPDX-License-Identifier: Apache-2.0
"""One run: finds or starts a server, requests the pictures one after another, writes and reports them."""

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from fastapi_triton.cli.generate.client import TIMEOUT, Client, GeneratedPicture, Queued
from fastapi_triton.cli.generate.errors import GenerateError, NothingListensError
from fastapi_triton.cli.generate.local_server import own_server
from fastapi_triton.cli.generate.progress import ProgressDisplay
from fastapi_triton.cli.generate.receipt import Receipt
from fastapi_triton.cli.generate.request import GenerateRequest

DEFAULT_URL = "http://localhost:8080"


@dataclass(slots=True)
class RunReport:
    """The run so far, as `--json` prints it, also after an error."""

    server: str = ""
    started_server: bool = False
    pictures: list[dict[str, Any]] = field(default_factory=list)
    same_pixels: bool | None = None  # whether a remade picture is identical; None: it need not be
    warnings: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if value is not None}


class GenerateRun:
    """Makes the pictures of a request, and adds them to the report."""

    def __init__(self, request: GenerateRequest, report: RunReport, display: ProgressDisplay) -> None:
        self._request = request
        self._report = report
        self._display = display

    async def execute(self, *, url: str | None, path: str, key: str | None = None) -> None:
        """Make the pictures one after another.

        Batched requests would round differently in the last bit, and a single picture could not be made again.

        Raises:
            GenerateError: the run cannot be completed.
        """
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        async with (
            aiohttp.ClientSession(timeout=TIMEOUT, headers=headers) as session,
            self._client(session, url, path) as client,
        ):
            self._report.server = client.url
            self._report.started_server = url is None and client.url != DEFAULT_URL
            description = await client.describe()
            if self._request.original:
                for difference in self._request.original.differences(description):
                    self._warn(f"{difference} The picture may differ.")
            for index in range(self._request.num):
                picture = await self._draw(client, index)
                self._add(picture, self._request.outputs.write(index, picture.content))

    @asynccontextmanager
    async def _client(self, session: aiohttp.ClientSession, url: str | None, path: str) -> AsyncIterator[Client]:
        """A client of the server at `url`; without a URL, of the local server, which is started if none responds."""
        client = Client(session, (url or DEFAULT_URL).rstrip("/"), path)
        try:
            await client.describe()
        except NothingListensError:
            if url is not None:
                raise
        else:
            yield client
            return
        self._display.print(f"No server responds at {DEFAULT_URL}; starting one for this run …")
        async with own_server() as own_url:
            yield Client(session, own_url, path)
        self._display.print("The started server is stopped.")

    async def _draw(self, client: Client, index: int) -> GeneratedPicture:
        self._display.begin(index, self._request.num)
        async with aclosing(client.draw(self._request.fields_of(index), self._request.scribble)) as events:
            async for event in events:
                if isinstance(event, GeneratedPicture):
                    self._display.finish()
                    return event
                if isinstance(event, Queued):
                    self._display.queued(event)
                else:
                    self._display.step(event)
        raise GenerateError("The server returned no picture.")  # `Client.draw` raises before

    def _add(self, picture: GeneratedPicture, file: Path | None) -> None:
        info = picture.info
        self._report.pictures.append(
            {
                "file": str(file) if file else None,
                "format": self._request.outputs.picture_format,
                "bytes": len(picture.content),
                "seed": picture.seed,
                "info": info,
            }
        )
        if file:
            self._display.wrote(file, picture)
        for note in (*info.get("notes", []), *(info.get("scribble") or {}).get("notes", [])):
            self._display.print(f"Note: {note.removesuffix('.')}.")
        if self._request.original is not None:
            self._compare(picture, self._request.original)

    def _compare(self, picture: GeneratedPicture, original: Receipt) -> None:
        """Compare the picture with the one whose receipt it was made from."""
        info = picture.info
        has_same_size = (info.get("width"), info.get("height")) == (original.width, original.height)
        if has_same_size and (info.get("scribble") or {}).get("sha256") != original.scribble_sha256:
            self._warn("The scribble differs from the original one.")
        for name, option in (("init_image", "--init-image"), ("mask", "--mask")):
            original_hash = original.hash_of(name)
            if has_same_size and original_hash and info.get(f"{name}_sha256") != original_hash:
                self._warn(f"{option} is another picture than the original one.")
        if self._request.is_remade:
            hashes = {each["name"]: each["sha256"] for each in info.get("loras", [])}
            for lora in original.loras or []:
                if hashes.get(lora.name) != lora.sha256:
                    self._warn(f"The file of the LoRA {lora.name} has changed.")
            self._report.same_pixels = info.get("pixels_sha256") == original.pixels_sha256
            if self._report.same_pixels:
                self._display.print("The picture is the same, pixel for pixel.")
            else:
                self._warn("Some pixels differ from the original picture.")

    def _warn(self, text: str) -> None:
        self._report.warnings.append(text)
        self._display.print(f"Warning: {text}")
