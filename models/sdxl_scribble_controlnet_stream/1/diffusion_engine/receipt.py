# SPDX-License-Identifier: Apache-2.0
"""Receipts: the record of how a picture was made, for `info` and the picture file. Imports no torch."""

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

# Increased whenever the same request may give other pixels.
ENGINE_VERSION = "0.1.0"
# The version of the receipt's format.
RECEIPT_VERSION = 1
# A JPEG can hold 64 KB of such data. The other formats have the same limit.
MAX_BYTES = 60_000
# The parts that are omitted from a receipt that is too large, in this order.
LARGE_PARTS = (("scribble_png",), ("prompt", "negative_prompt"))
# Parameters that do not affect the pixels, or that the recorded scribble and hashes make redundant.
NOT_IN_FILE = ("invert", "mask_selects", "receipt")


@dataclass(frozen=True, slots=True)
class SeenScribble:
    """The control image as a PNG with one bit for each pixel, white strokes on black, and a hash of its pixels."""

    png: bytes
    sha256: str

    @classmethod
    def of(cls, control_image: Image.Image) -> "SeenScribble":
        """From a control image, which has only black and white pixels."""
        bits = control_image.convert("1", dither=Image.Dither.NONE)
        buffer = io.BytesIO()
        bits.save(buffer, "PNG", compress_level=6)
        return cls(buffer.getvalue(), hash_of_pixels(bits))


class ReceiptWriter:
    """Writes the receipts of one engine. `runs_on` has its device, dtype and versions."""

    def __init__(self, capabilities: Capabilities, runs_on: Mapping[str, str]) -> None:
        self._maker = {
            "checkpoint": capabilities.name,
            "checkpoint_revision": capabilities.revision,
            "engine": dict(runs_on),
        }

    def info(self, state: RequestState) -> dict[str, Any]:
        """The receipt for `info`. It has no prompt, because proxies may log the header in which it is sent."""
        request = state.request
        negative = {"negative_prompt": request.negative_prompt} if request.receipt == "full" else {}
        return {
            **self._maker,
            **negative,
            **request.used_parameters(),
            **({"loras": [lora.recorded() for lora in state.loras]} if state.loras else {}),
            **state.picture_hashes,
            **({"upscaled_from": state.made_size} if state.sent_size != state.made_size else {}),
            **({"vae_tiling": True} if state.is_tiled else {}),
            **({"cached_steps": state.num_cached_steps} if state.num_cached_steps else {}),
            "pixels_sha256": state.pixels_sha256,
        }

    def text(self, state: RequestState) -> str:
        """The receipt for the file: a line of ASCII, always the same for the same picture. Empty for `none`."""
        request, seen = state.request, state.seen_scribble
        if request.receipt == "none":
            return ""
        facts = {name: value for name, value in self.info(state).items() if name not in NOT_IN_FILE}
        content: dict[str, Any] = {"made_by": "fastapi-triton", "receipt": RECEIPT_VERSION}
        if request.receipt == "full":
            content["prompt"] = request.prompt
        content |= facts
        if seen is not None:
            content |= {"scribble_sha256": seen.sha256, "scribble_png": base64.b64encode(seen.png).decode()}
        for parts in LARGE_PARTS:
            text = json.dumps(content)
            if len(text) <= MAX_BYTES:
                return text
            for part in parts:
                content.pop(part, None)
        return json.dumps(content)
