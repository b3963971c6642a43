# SPDX-License-Identifier: Apache-2.0
"""Draws `docs/images/examples.png`, the picture in the README: `python -m scripts.examples_picture`.

It starts the embedded Triton with the demo checkpoint, or uses the server at `--url`.
"""

import base64
import io
import json
import textwrap
import urllib.request
from pathlib import Path
from typing import Annotated, Any

import typer
from PIL import Image, ImageDraw, ImageFont

from scripts.demo_server import server_at

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "demo" / "examples"
PATH = "/sdxl/scribble-controlnet/infer"
COLUMNS, SIDE, SCRIBBLE, GAP = 4, 256, 120, 12


def painted(url: str, example: dict[str, Any]) -> Image.Image:
    """The picture that the server makes from an example, in the checkpoint's default size."""
    image = base64.b64encode((EXAMPLES / example["file"]).read_bytes()).decode()
    body = json.dumps({"prompt": example["prompt"], "image": image, "seed": example["seed"], "output_format": "png"})
    request = urllib.request.Request(url + PATH, body.encode(), {"Content-Type": "application/json"})  # noqa: S310
    with urllib.request.urlopen(request) as answer:  # noqa: S310
        return Image.open(io.BytesIO(base64.b64decode(json.load(answer)["generated_image"]))).convert("RGB")


def fitted(image: Image.Image, side: int) -> Image.Image:
    """In a square of this side. A picture of this size stays as it is."""
    return image.resize((side, side), Image.Resampling.LANCZOS)


def cell(example: dict[str, Any], picture: Image.Image) -> Image.Image:
    """A scribble with its prompt beside it and its picture below."""
    canvas = Image.new("RGB", (SIDE, SCRIBBLE + GAP + SIDE), "white")
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(15)
    canvas.paste(fitted(Image.open(EXAMPLES / example["file"]).convert("RGB"), SCRIBBLE))
    draw.rectangle((0, 0, SCRIBBLE - 1, SCRIBBLE - 1), outline="#cccccc")
    caption = textwrap.fill(example["prompt"], 15)
    draw.multiline_text((SCRIBBLE + GAP, SCRIBBLE / 2), caption, "black", font, anchor="lm")
    canvas.paste(fitted(picture, SIDE), (0, SCRIBBLE + GAP))
    return canvas


def sheet(url: str) -> Image.Image:
    """The examples in rows."""
    examples = json.loads((EXAMPLES / "examples.json").read_text())
    cells = [cell(each, painted(url, each)) for each in examples]
    width, height = cells[0].width + GAP, cells[0].height + 2 * GAP
    num_rows = -(-len(cells) // COLUMNS)
    canvas = Image.new("RGB", (COLUMNS * width + GAP, num_rows * height), "white")
    for index, each in enumerate(cells):
        canvas.paste(each, (GAP + index % COLUMNS * width, GAP + index // COLUMNS * height))
    return canvas


def main(
    url: Annotated[str | None, typer.Option(help="A running server. Without it, one is started.")] = None,
    output: Path = ROOT / "docs" / "images" / "examples.png",
) -> None:
    with server_at(url) as at:
        sheet(at).save(output, optimize=True)
    typer.echo(f"{output}: {output.stat().st_size} bytes")


if __name__ == "__main__":
    typer.run(main)
