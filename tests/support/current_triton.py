# SPDX-License-Identifier: Apache-2.0
"""A scripted Triton that rejects what Triton 2.73 (release 26.09) rejects and 2.51 accepts.

The statuses were measured. The messages are those of NVIDIA's binaries, except for junk in a header and an output that
is requested twice.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import orjson

from support.scripted_triton import Upstream, scripted_triton
from support.triton_with_processes import CONFIG, CURRENT, TritonWithProcesses

MAX_DEPTH = 100
_BAD_REQUEST, _NOT_FOUND = b"400 Bad Request", b"404 Not Found"


@dataclass
class CurrentTriton(TritonWithProcesses):
    """Serves the model `echo`, whose input `scales` may have any length. `max_input_bytes`: --http-max-input-size."""

    version: str = CURRENT
    has_shared_memory: bool = False
    max_input_bytes: int = 64 * 1024 * 1024
    config: dict[str, Any] = field(default_factory=lambda: {**CONFIG, "input": [*CONFIG["input"], SCALES]})
    num_rejected: int = 0

    async def respond(self, upstream: Upstream, path: str, head: bytes, body: bytes) -> None:
        try:
            _require_known(path)
            if body:
                self._require_valid(path, head.lower(), body)
        except Rejected as rejected:
            self.num_rejected += 1
            await upstream.respond(orjson.dumps({"error": rejected.text}), status=rejected.status)
        else:
            await super().respond(upstream, path, head, body)

    def _require_valid(self, path: str, head: bytes, body: bytes) -> None:
        text = body[: _json_length(head, body)]
        if len(text) > self.max_input_bytes:
            raise Rejected(
                f"Request JSON size of {len(text)} bytes exceeds the maximum allowed input size of "
                f"{self.max_input_bytes}. Use --http-max-input-size to increase the limit."
            )
        if _depth(text) > MAX_DEPTH:
            raise Rejected(f"JSON nesting depth exceeds maximum allowed limit ({MAX_DEPTH})")
        members = orjson.loads(text)
        outputs = [each["name"] for each in members.get("outputs", ())]
        if len(set(outputs)) < len(outputs):
            raise Rejected(f"output '{outputs[0]}' is requested more than once")
        if "/generate" in path:
            for name in (name for name, value in members.items() if value == []):
                raise Rejected(
                    f"unexpected shape for input '{name}' for model 'echo'. Expected [-1], got []. NOTE: ..."
                )


SCALES = {"name": "scales", "data_type": "TYPE_FP32", "dims": [-1], "optional": True}


class Rejected(Exception):  # noqa: N818
    """A request that Triton rejects with this message."""

    def __init__(self, text: str, status: bytes = _BAD_REQUEST) -> None:
        super().__init__(text)
        self.text = text
        self.status = status


def _require_known(path: str) -> None:
    """A current Triton answers 404 for an unknown model, also to `/ready`, where 2.51 answers 400."""
    name = unquote(path.removeprefix("/v2/models/").partition("/")[0])
    if path.startswith("/v2/models/") and name != "echo":
        raise Rejected(f"Request for unknown model: '{name}' is not found", _NOT_FOUND)


def _json_length(head: bytes, body: bytes) -> int:
    value = head.partition(b"inference-header-content-length: ")[2].partition(b"\r\n")[0]
    if value and not value.isdigit():
        raise Rejected("Inference-Header-Content-Length is not a number")
    return int(value or len(body))


def _depth(text: bytes) -> int:
    depth = deepest = 0
    for byte in text:
        depth += (byte in b"[{") - (byte in b"]}")
        deepest = max(deepest, depth)
    return deepest


@asynccontextmanager
async def current_triton() -> AsyncIterator[CurrentTriton]:
    async with scripted_triton() as scripted:
        triton = CurrentTriton(url=scripted.url)
        scripted.script = triton.serve
        yield triton
