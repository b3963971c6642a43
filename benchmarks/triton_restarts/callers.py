# SPDX-License-Identifier: Apache-2.0
"""Clients of every API, each with one request at a time, and the responses they got."""

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import aiohttp

MS = 20
# By its name: path and body.
WAYS: dict[str, tuple[str, dict[str, Any]]] = {
    "declared, /infer": ("/pause", {"ms": MS}),
    "declared, stream": ("/pause-stream", {"ms": MS}),
    "generated": ("/models/pause/infer", {"ms": MS}),
    "/v2": (
        "/v2/models/pause/infer",
        {"inputs": [{"name": "ms", "shape": [1, 1], "datatype": "INT32", "data": [MS]}]},
    ),
}
NO_ANSWER = "no answer"
# Between a refusal and the next request: shorter than any `Retry-After`, so that the way back is seen closely.
_PAUSE_S = 0.02
_TIMEOUT_S = 60.0


@dataclass(slots=True)
class Told:
    """What the callers of one way met. `served` are the times at which a request began that was answered with 200."""

    answers: Counter[str] = field(default_factory=Counter)
    served: list[tuple[float, float]] = field(default_factory=list)
    slowest_refusal_s: float = 0.0


async def call(session: aiohttp.ClientSession, way: str, told: Told) -> None:
    """One request after another, for ever."""
    path, body = WAYS[way]
    while True:
        began = time.monotonic()
        try:
            async with session.post(path, json=body, timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S)) as answer:
                text = await answer.read()
                code = (
                    "200"
                    if answer.status == 200
                    else f"{answer.status} {(await answer.json(content_type=None))['code']}"
                )
        except (aiohttp.ClientError, TimeoutError, ValueError, KeyError) as error:
            code, text = f"{NO_ANSWER}: {type(error).__name__}", b""
        told.answers[code] += 1
        if code == "200" and text:
            told.served.append((began, time.monotonic()))
            continue
        if code.startswith("503 triton_unavailable"):
            told.slowest_refusal_s = max(told.slowest_refusal_s, time.monotonic() - began)
        await asyncio.sleep(_PAUSE_S)
