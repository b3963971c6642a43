# SPDX-License-Identifier: Apache-2.0
"""The page's example scribbles: smaller copies of those in the wheel."""

import io
import json
from functools import cache
from pathlib import Path

from PIL import Image

from fastapi_triton.core import bundle

# Large enough to draw on. With black and white only, lines are sharp and files are a third as large as with grey.
_SIDE = 384


@cache
def listed() -> list[dict[str, str]]:
    """The examples: each has a `prompt`, and a `file`, its key in `pictures()`."""
    entries = json.loads((bundle.examples() / "examples.json").read_text(encoding="utf-8"))
    return [{"prompt": each["prompt"], "file": f"{Path(each['file']).stem}.webp"} for each in entries]


def pictures() -> dict[str, bytes]:
    """The scribbles as small WebP files, by name."""
    return {each["file"]: _small(bundle.examples() / f"{Path(each['file']).stem}.png") for each in listed()}


def _small(path: Path) -> bytes:
    with Image.open(path) as image:
        grey = image.convert("L")
        grey.thumbnail((_SIDE, _SIDE))
        file = io.BytesIO()
        grey.point(lambda value: 255 * (value > 127)).save(file, "WEBP", lossless=True, method=6)
    return file.getvalue()
