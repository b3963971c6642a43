# SPDX-License-Identifier: Apache-2.0
"""Drawings to send, and where the model and the scribble files are."""

import io
import json
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

MODEL_FOLDER = Path(__file__).parents[2] / "models" / "sdxl_scribble_controlnet"
VERSION_FOLDER = MODEL_FOLDER / "1"
CHECKPOINT = VERSION_FOLDER / "demo_checkpoint"
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


def scribble_files() -> list[dict[str, Any]]:
    content: list[dict[str, Any]] = json.loads((SCRIBBLES / "scribbles.json").read_text(encoding="utf-8"))
    return content
