# SPDX-License-Identifier: Apache-2.0
"""Clients of every API, each with one request at a time, and the responses they got."""

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import aiohttp

MS = 20
# Path and body of each API's requests.
APIS: dict[str, tuple[str, dict[str, Any]]] = {
    "declared, /infer": ("/pause", {"ms": MS}),
    "declared, stream": ("/pause-stream", {"ms": MS}),
    "generated": ("/models/pause/infer", {"ms": MS}),
    "/v2": (
        "/v2/models/pause/infer",
        {"inputs": [{"name": "ms", "shape": [1, 1], "datatype": "INT32", "data": [MS]}]},
    ),
}
NO_RESPONSE = "no response"
# Pause after an error. It is shorter than any `Retry-After`, to measure recovery exactly.
_PAUSE_S = 0.02
_TIMEOUT_S = 60.0


@dataclass(slots=True)
class Responses:
    """The responses of one API: counts by outcome, and start and end of each successful request."""

    counts: Counter[str] = field(default_factory=Counter)
    served: list[tuple[float, float]] = field(default_factory=list)
    slowest_rejection_s: float = 0.0


async def send_requests(session: aiohttp.ClientSession, api: str, responses: Responses) -> None:
    """Send one request after another until cancelled."""
    path, body = APIS[api]
    while True:
        began = time.monotonic()
        try:
            async with session.post(path, json=body, timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S)) as response:
                text = await response.read()
                code = (
                    "200"
                    if response.status == 200
                    else f"{response.status} {(await response.json(content_type=None))['code']}"
                )
        except (aiohttp.ClientError, TimeoutError, ValueError, KeyError) as error:
            code, text = f"{NO_RESPONSE}: {type(error).__name__}", b""
        responses.counts[code] += 1
        if code == "200" and text:
            responses.served.append((began, time.monotonic()))
            continue
        if code.startswith("503 triton_unavailable"):
            responses.slowest_rejection_s = max(responses.slowest_rejection_s, time.monotonic() - began)
        await asyncio.sleep(_PAUSE_S)
