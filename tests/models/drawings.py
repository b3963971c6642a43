# SPDX-License-Identifier: Apache-2.0
"""Scribbles for requests, and the folders of the models and of the sample scribbles."""

import io
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

MODELS = Path(__file__).parents[2] / "models"
FACADE_FOLDER = MODELS / "sdxl_scribble_controlnet"
MODEL_FOLDER = MODELS / "sdxl_scribble_controlnet_stream"
VERSION_FOLDER = MODEL_FOLDER / "1"
CHECKPOINT = VERSION_FOLDER / "demo_checkpoint"
EXAMPLES = Path(__file__).parents[2] / "demo" / "examples"
SCRIBBLES = Path(__file__).parents[1] / "data" / "scribbles"


def as_file(picture: Image.Image, file_format: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, file_format, **options)
    return buffer.getvalue()


def circle(
    size: tuple[int, int] = (256, 256), *, ink: str = "black", ground: str = "white", pen: int = 5
) -> Image.Image:
    picture = Image.new("RGB", size, ground)
    side = min(size)
    left, top = (size[0] - side) // 2, (size[1] - side) // 2
    box = (left + side * 0.2, top + side * 0.2, left + side * 0.8, top + side * 0.8)
    ImageDraw.Draw(picture).ellipse(box, outline=ink, width=pen)
    return picture


@cache
def circle_file() -> bytes:
    return as_file(circle())


def row(**values: Any) -> dict[str, Any]:
    """The values of a request by tensor name. It has few steps, because these tests do not need good pictures."""
    return {
        "prompt": b"a red circle on a blue background",
        "image": circle_file(),
        "conditioning_scale": 1.0,
        "seed": 1,
        "num_inference_steps": 4,
        "output_format": b"png",
        **values,
    }


def pixels_of(file: bytes) -> npt.NDArray[Any]:
    """The pixels of a picture file, (H, W, 3), as signed integers for differences."""
    return np.asarray(Image.open(io.BytesIO(file)).convert("RGB")).astype(np.int16)


def scribble_files() -> list[dict[str, Any]]:
    content: list[dict[str, Any]] = json.loads((SCRIBBLES / "scribbles.json").read_text(encoding="utf-8"))
    return content
