# SPDX-License-Identifier: Apache-2.0
"""Contact sheets: scribble over picture, with a caption below."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PIL import Image, ImageDraw

from demo.pixels import Pixels

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

Cell = tuple[Pixels | None, Pixels, str]  # scribble (H, W), picture (H, W, 3), caption


def contact_sheet(cells: Sequence[Cell], path: Path, *, columns: int = 8, side: int = 128) -> None:
    rows = -(-len(cells) // columns)
    has_scribbles = any(scribble is not None for scribble, _, _ in cells)
    cell_height = side * (2 if has_scribbles else 1) + 24
    sheet = Image.new("RGB", (columns * (side + 2), rows * cell_height), (255, 255, 255))
    draw = ImageDraw.Draw(sheet)
    for index, (scribble, picture, text) in enumerate(cells):
        x, y = index % columns * (side + 2), index // columns * cell_height
        if scribble is not None:
            sheet.paste(_fit(Image.fromarray(scribble), side), (x, y))
            y += side
        sheet.paste(_fit(Image.fromarray(picture), side), (x, y))
        for row, part in enumerate(_wrap(text, side // 6)[:2]):
            draw.text((x + 1, y + side + row * 11), part, fill=(20, 20, 20), font_size=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)


def _fit(image: Image.Image, side: int) -> Image.Image:
    scale = side / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.convert("RGB").resize(size, Image.Resampling.LANCZOS) if size != image.size else image.convert("RGB")


def _wrap(text: str, width: int) -> list[str]:
    lines: list[str] = [""]
    for word in text.split():
        if len(lines[-1]) + len(word) >= width and lines[-1]:
            lines.append("")
        lines[-1] += f"{word} "
    return lines
