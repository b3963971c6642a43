# SPDX-License-Identifier: Apache-2.0
"""Draws `docs/images/examples.png`, the picture in the README, with the server at the given URL."""

import base64
import io
import json
import sys
import textwrap
import urllib.request
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "demo" / "examples"
PATH = "/sdxl/scribble-controlnet/infer"
SIDE, GAP, CAPTION = 160, 12, 48


def painted(url: str, example: dict[str, Any]) -> Image.Image:
    """The picture that the server makes from an example."""
    image = base64.b64encode((EXAMPLES / example["file"]).read_bytes()).decode()
    body = json.dumps({"prompt": example["prompt"], "image": image, "seed": example["seed"], "output_format": "png"})
    request = urllib.request.Request(url + PATH, body.encode(), {"Content-Type": "application/json"})  # noqa: S310
    with urllib.request.urlopen(request) as answer:  # noqa: S310
        return Image.open(io.BytesIO(base64.b64decode(json.load(answer)["generated_image"])))


def sheet(url: str) -> Image.Image:
    """The examples side by side, each with its scribble, prompt and picture from top to bottom."""
    examples = json.loads((EXAMPLES / "examples.json").read_text())
    canvas = Image.new("RGB", (len(examples) * (SIDE + GAP) + GAP, 2 * SIDE + CAPTION + 2 * GAP), "white")
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(15)
    for column, example in enumerate(examples):
        left = GAP + column * (SIDE + GAP)
        scribble = Image.open(EXAMPLES / example["file"]).convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS)
        canvas.paste(scribble, (left, GAP))
        draw.rectangle((left, GAP, left + SIDE - 1, GAP + SIDE - 1), outline="#cccccc")
        caption = textwrap.fill(example["prompt"], 22)
        middle = (left + SIDE / 2, GAP + SIDE + CAPTION / 2)
        draw.multiline_text(middle, caption, "black", font, anchor="mm", align="center")
        picture = painted(url, example).convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS)
        canvas.paste(picture, (left, GAP + SIDE + CAPTION))
    return canvas


if __name__ == "__main__":
    sheet(sys.argv[1]).save(ROOT / "docs" / "images" / "examples.png", optimize=True)
