# SPDX-License-Identifier: Apache-2.0
"""One run: find a server or start one, have the pictures made one after another, write them, tell how it went."""

from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from fastapi_triton.cli.generate.client import TIMEOUT, Frontend, Picture, Queued
from fastapi_triton.cli.generate.errors import GenerateError, NobodyAnswersError
from fastapi_triton.cli.generate.local_server import own_server
from fastapi_triton.cli.generate.progress import Teller
from fastapi_triton.cli.generate.receipt import Receipt
from fastapi_triton.cli.generate.request import Order

DEFAULT_URL = "http://localhost:8080"


@dataclass(slots=True)
class Outcome:
    """What has come of a run so far; it stays true when the run is cut short."""

    url: str = ""
    has_own_server: bool = False
    pictures: list[dict[str, Any]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    same_pixels: bool | None = None  # as the picture that was remade; None: not to be expected

    def as_json(self) -> dict[str, Any]:
        told: dict[str, Any] = {"server": self.url, "started_server": self.has_own_server, "pictures": self.pictures}
        if self.same_pixels is not None:
            told["same_pixels"] = self.same_pixels
        return {**told, "warnings": self.warnings}


async def run(
    order: Order, outcome: Outcome, teller: Teller, *, url: str | None, path: str, key: str | None = None
) -> None:
    """Make the pictures of an order. One after another: in company a pass rounds differently in the last bit, and each
    of them shall come out the same when it is made again alone.

    Raises:
        GenerateError: whatever there is to tell a person.
    """
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    async with (
        aiohttp.ClientSession(timeout=TIMEOUT, headers=headers) as session,
        _frontend(session, url, path, teller) as frontend,
    ):
        outcome.url, outcome.has_own_server = frontend.url, url is None and frontend.url != DEFAULT_URL
        description = await frontend.describe()
        if order.original:
            for difference in order.original.differences(description):
                _warn(outcome, teller, f"{difference} The picture may come out differently.")
        for index in range(order.num):
            picture = await _draw(frontend, order, index, teller)
            file = order.outputs.write(index, picture.content)
            _note(outcome, picture, file, order, teller)


@asynccontextmanager
async def _frontend(
    session: aiohttp.ClientSession, url: str | None, path: str, teller: Teller
) -> AsyncIterator[Frontend]:
    """The server at `url`; without one the local one, or one of our own where there is none."""
    frontend = Frontend(session, (url or DEFAULT_URL).rstrip("/"), path)
    try:
        await frontend.describe()
    except NobodyAnswersError:
        if url is not None:
            raise
    else:
        yield frontend
        return
    teller.say(f"No server answers at {DEFAULT_URL}; starting one for this run …")
    async with own_server() as own_url:
        yield Frontend(session, own_url, path)
    teller.say("The server that was started is stopped.")


async def _draw(frontend: Frontend, order: Order, index: int, teller: Teller) -> Picture:
    teller.begin(index, order.num)
    async with aclosing(frontend.draw(order.request(index), order.scribble)) as events:
        async for event in events:
            if isinstance(event, Picture):
                teller.finish(index)
                return event
            if isinstance(event, Queued):
                teller.queued(index, order.num, event)
            else:
                teller.step(index, order.num, event)
    raise GenerateError("The server gave no picture.")  # `Frontend.draw` raises before


def _note(outcome: Outcome, picture: Picture, file: Path | None, order: Order, teller: Teller) -> None:
    info = picture.info
    outcome.pictures.append(
        {
            "file": str(file) if file else None,
            "format": order.outputs.picture_format,
            "bytes": len(picture.content),
            "seed": picture.seed,
            "info": info,
        }
    )
    teller.wrote(file, picture)
    scribble = info.get("scribble") or {}
    for note in (*info.get("notes", []), *scribble.get("notes", [])):
        teller.say(f"Note: {note}.")
    if order.original is not None:
        _compare(outcome, info, scribble.get("sha256"), order, order.original, teller)


def _compare(
    outcome: Outcome, info: Mapping[str, Any], seen: str | None, order: Order, original: Receipt, teller: Teller
) -> None:
    """With the picture that it was made from."""
    has_same_size = (info.get("width"), info.get("height")) == (original.width, original.height)
    if has_same_size and seen != original.scribble_sha256:
        _warn(outcome, teller, "The scribble is not the one that the picture was made from.")
    if order.is_remade:
        outcome.same_pixels = info.get("pixels_sha256") == original.pixels_sha256
        if outcome.same_pixels:
            teller.say("The same as before, pixel for pixel.")
        else:
            _warn(outcome, teller, "Some pixels differ from the picture that it was made from.")


def _warn(outcome: Outcome, teller: Teller, words: str) -> None:
    outcome.warnings.append(words)
    teller.say(f"Warning: {words}")
