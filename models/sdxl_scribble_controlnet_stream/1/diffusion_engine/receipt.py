# SPDX-License-Identifier: Apache-2.0
"""What it takes to make a picture again, for the answer and for the picture file itself. No torch."""

import base64
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from PIL import Image

from diffusion_engine.capabilities import Capabilities
from diffusion_engine.pictures import hash_of_pixels
from diffusion_engine.request_state import RequestState

# Raised whenever the same request may give other pixels.
ENGINE_VERSION = "0.1.0"
# The receipt's own format: whoever reads one knows by it what to expect.
RECEIPT_VERSION = 1
# A JPEG holds 64 KB of such data at most; the other formats keep to the same.
MAX_BYTES = 60_000
# What may go when it is too much, in this order.
LARGE_PARTS = (("scribble_png",), ("prompt", "negative_prompt"))
# Of the parameters, those that say nothing of the pixels, or nothing that the scribble as it was seen does not say.
NOT_IN_FILE = ("invert", "receipt")


@dataclass(frozen=True, slots=True)
class SeenScribble:
    """The control image as a file of one bit a pixel, white strokes on black, and a hash of its pixels."""

    png: bytes
    sha256: str

    @classmethod
    def of(cls, control_image: Image.Image) -> "SeenScribble":
        """Of black and white pixels only."""
        bits = control_image.convert("1", dither=Image.Dither.NONE)
        buffer = io.BytesIO()
        bits.save(buffer, "PNG", compress_level=6)
        return cls(buffer.getvalue(), hash_of_pixels(bits))


class ReceiptWriter:
    """Writes the receipts of one engine; `runs_on` says on what it runs."""

    def __init__(self, capabilities: Capabilities, runs_on: Mapping[str, str]) -> None:
        self._maker = {
            "checkpoint": capabilities.name,
            "checkpoint_revision": capabilities.revision,
            "engine": dict(runs_on),
        }

    def info(self, state: RequestState) -> dict[str, Any]:
        """For the answer, whose headers pass through other people's logs: the prompt is in the file alone."""
        request = state.request
        negative = {"negative_prompt": request.negative_prompt} if request.receipt == "full" else {}
        return {
            **self._maker,
            **negative,
            **request.used_parameters(),
            "pixels_sha256": state.pixels_sha256,
        }

    def text(self, state: RequestState) -> str:
        """For the file: one line of ASCII, the same for the same picture; empty where none is wanted."""
        request, seen = state.request, state.seen_scribble
        if request.receipt == "none":
            return ""
        said = {name: value for name, value in self.info(state).items() if name not in NOT_IN_FILE}
        content: dict[str, Any] = {"made_by": "fastapi-triton", "receipt": RECEIPT_VERSION}
        if request.receipt == "full":
            content["prompt"] = request.prompt
        content |= said
        if seen is not None:
            content |= {"scribble_sha256": seen.sha256, "scribble_png": base64.b64encode(seen.png).decode()}
        for parts in LARGE_PARTS:
            text = json.dumps(content)
            if len(text) <= MAX_BYTES:
                return text
            for part in parts:
                content.pop(part, None)
        return json.dumps(content)
