# SPDX-License-Identifier: Apache-2.0
"""Draw the test scribbles: the kinds of files that people send, each with a prompt and the outline of its shape.

Run `python tests/data/make_scribbles.py` to write the files again. The drawings are always the same.
"""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter, ImageOps

FOLDER = Path(__file__).parent / "scribbles"
Points = npt.NDArray[np.float64]  # (points, 2), x and y relative to the drawing's side


def polar(radius: Callable[[float], float], num_points: int = 90) -> Points:
    angles = [2 * math.pi * index / num_points for index in range(num_points)]
    return np.array([(0.5 + radius(a) * math.sin(a), 0.5 - radius(a) * math.cos(a)) for a in angles])


def polygon(*corners: tuple[float, float]) -> Points:
    return np.array(corners)


def heart() -> Points:
    angles = np.linspace(0, 2 * math.pi, 90, endpoint=False)
    x = 16 * np.sin(angles) ** 3
    y = 13 * np.cos(angles) - 5 * np.cos(2 * angles) - 2 * np.cos(3 * angles) - np.cos(4 * angles)
    return np.stack([0.5 + x / 44, 0.47 - y / 44], axis=1)


def fish() -> Points:
    body = [(0.42 + 0.3 * math.cos(a), 0.5 + 0.2 * math.sin(a)) for a in np.linspace(0.45, 2 * math.pi - 0.45, 60)]
    return np.array([*body, (0.9, 0.3), (0.84, 0.5), (0.9, 0.7)])


def leaf() -> Points:
    side = np.linspace(-1, 1, 40)
    upper = np.stack([0.5 + 0.38 * side, 0.5 - 0.2 * (1 - side**2)], axis=1)
    return np.concatenate([upper, (1 - upper)])


SHAPES: dict[str, Points] = {
    "circle": polar(lambda a: 0.33),
    "star": np.array(
        [
            (0.5 + r * math.sin(i * math.pi / 5), 0.53 - r * math.cos(i * math.pi / 5))
            for i, r in enumerate([0.42, 0.19] * 5)
        ]
    ),
    "heart": heart(),
    "fish": fish(),
    "leaf": leaf(),
    "house": polygon((0.24, 0.82), (0.24, 0.45), (0.5, 0.18), (0.76, 0.45), (0.76, 0.82)),
    "triangle": polygon((0.5, 0.15), (0.86, 0.8), (0.14, 0.8)),
    "diamond": polygon((0.5, 0.12), (0.8, 0.5), (0.5, 0.88), (0.2, 0.5)),
    "cloud": polar(lambda a: 0.27 + 0.05 * abs(math.sin(3.5 * a)) + 0.08 * abs(math.sin(a))),
    "blob": polar(lambda a: 0.3 + 0.06 * math.sin(2 * a) + 0.04 * math.cos(3 * a + 1)),
}


def outline(shape: str, size: tuple[int, int]) -> Points:
    """The shape in pixels, in a square in the middle of the picture."""
    side = min(size)
    return SHAPES[shape] * side + (np.array(size) - side) / 2


def draw(shape: str, size: tuple[int, int], *, pen: float, filled: bool = False, wobble: float = 0.004) -> Image.Image:
    """White strokes on black, antialiased and slightly unsteady like a hand."""
    rng = np.random.default_rng(len(shape) + size[0])
    scale = 4 if max(size) <= 1300 else 1
    corners = outline(shape, size)
    dense: list[tuple[float, float]] = []
    for start, end in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        steps = max(1, int(np.linalg.norm(end - start) / min(size) * 40))
        dense += [tuple(start + (end - start) * step / steps) for step in range(steps)]
    points = np.array(dense)
    noise = rng.normal(0, 1, points.shape)
    smooth = sum(np.roll(noise, shift, axis=0) for shift in range(-3, 4)) / 7
    points = (points + smooth * wobble * min(size) * 2) * scale
    line = [tuple(point) for point in points]
    canvas = Image.new("L", (size[0] * scale, size[1] * scale))
    brush = ImageDraw.Draw(canvas)
    if filled:
        brush.polygon(line, fill=255)
    brush.line([*line, *line[:2]], fill=255, width=max(1, round(pen * scale)), joint="curve")
    return canvas if scale == 1 else canvas.resize(size, Image.Resampling.BOX)


def ink(strokes: Image.Image, colour: tuple[int, ...], ground: tuple[int, ...]) -> Image.Image:
    return Image.composite(Image.new("RGB", strokes.size, colour), Image.new("RGB", strokes.size, ground), strokes)


def on_transparent(strokes: Image.Image, colour: tuple[int, int, int]) -> Image.Image:
    picture = Image.new("RGBA", strokes.size, (*colour, 0))
    picture.putalpha(strokes)
    return picture


def photo(
    strokes: Image.Image, *, paper: float, pen: float, tint: tuple[float, float, float], shadow: bool, seed: int
) -> Image.Image:
    """A camera's view of a drawing: light from one corner, perhaps a shadow, blur and grain."""
    rng = np.random.default_rng(seed)
    width, height = strokes.size
    y, x = np.mgrid[0:height, 0:width] / np.array([height, width]).reshape(2, 1, 1)
    light = 1.0 - 0.5 * np.hypot(x - 0.1, y - 0.15)
    if shadow:
        light *= 1 - 0.35 / (1 + np.exp(-(x + 0.6 * y - 1.1) * 40))
    coverage = np.asarray(strokes.filter(ImageFilter.GaussianBlur(0.8))) / 255
    surface = paper + (pen - paper) * coverage + rng.normal(0, 5, (height, width))
    pixels = np.stack([surface * light * channel for channel in tint], axis=2)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def black_on_white(shape: str, size: tuple[int, int], pen: float, *, filled: bool = False) -> Image.Image:
    return ImageOps.invert(draw(shape, size, pen=pen, filled=filled))


def sixteen_bits(picture: Image.Image) -> Image.Image:
    return Image.fromarray((np.asarray(picture).astype(np.uint16)) * 257)


def save(name: str, picture: Image.Image, **options: Any) -> None:
    picture.save(FOLDER / name, **options)


def sideways() -> Image.Image:
    """Store a drawing rotated, as phones do, with the rotation in EXIF."""
    return black_on_white("triangle", (360, 480), 7).convert("RGB").transpose(Image.Transpose.ROTATE_90)


def rotated_exif() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def make_plain_files() -> None:
    save("white-on-black.png", draw("star", (512, 512), pen=8))
    save("black-on-white.png", black_on_white("heart", (512, 512), 8).convert("RGB"))
    save("transparent-dark-strokes.png", on_transparent(draw("fish", (512, 512), pen=9), (20, 20, 20)))
    save("transparent-light-strokes.png", on_transparent(draw("leaf", (512, 512), pen=9), (255, 255, 255)))
    house = ink(draw("house", (400, 400), pen=7), (30, 30, 120), (255, 250, 235))
    save("palette.png", house.quantize(16))
    save(
        "palette-transparent.png",
        ink(draw("blob", (400, 400), pen=8), (0, 0, 0), (255, 0, 255)).quantize(2),
        transparency=0,
    )
    save("cmyk.jpg", black_on_white("diamond", (480, 480), 8).convert("RGB").convert("CMYK"), quality=85)
    save("exif-rotated.jpg", sideways(), quality=85, exif=rotated_exif())
    save("grey-16-bit.png", sixteen_bits(black_on_white("star", (400, 400), 7)))
    save("one-bit-tall.png", black_on_white("circle", (300, 520), 6).convert("1", dither=Image.Dither.NONE))
    save("tiny-20px.png", black_on_white("heart", (20, 20), 1.2))
    save("thin-lines-4000px.png", black_on_white("fish", (4000, 3000), 3).convert("1", dither=Image.Dither.NONE))
    save("cloud.webp", ink(draw("cloud", (640, 480), pen=9), (240, 240, 240), (10, 10, 30)), quality=80)
    save("filled-shape.png", black_on_white("heart", (512, 512), 4, filled=True))
    save("thick-marker.png", black_on_white("star", (512, 512), 26))
    save("yellow-pen.jpg", ink(draw("circle", (480, 480), pen=9), (250, 225, 40), (255, 255, 255)), quality=85)
    save("empty-canvas.png", Image.new("RGB", (512, 512), "white"))


def make_photos() -> None:
    paper = photo(draw("circle", (720, 540), pen=7), paper=215, pen=70, tint=(1, 1, 1), shadow=False, seed=1)
    save("photo-of-paper.jpg", paper.convert("L"), quality=80)
    phone = photo(draw("house", (900, 1200), pen=9), paper=225, pen=60, tint=(1, 0.95, 0.82), shadow=True, seed=2)
    save("phone-photo-with-shadow.jpg", phone, quality=70)
    board = photo(draw("star", (800, 600), pen=9), paper=60, pen=200, tint=(0.75, 1, 0.85), shadow=False, seed=3)
    save("chalk-on-board.jpg", board, quality=75)
    frames = [black_on_white("leaf", (320, 320), 6), black_on_white("house", (320, 320), 6)]
    save("animated.gif", frames[0], save_all=True, append_images=frames[1:], duration=200)


# File, shape, its colour, the background's colour. They also make the prompt.
DRAWINGS = [
    ("white-on-black.png", "star", "yellow", "blue"),
    ("black-on-white.png", "heart", "red", "white"),
    ("transparent-dark-strokes.png", "fish", "orange", "blue"),
    ("transparent-light-strokes.png", "leaf", "green", "yellow"),
    ("palette.png", "house", "red", "green"),
    ("palette-transparent.png", "blob", "purple", "white"),
    ("cmyk.jpg", "diamond", "blue", "yellow"),
    ("exif-rotated.jpg", "triangle", "green", "white"),
    ("grey-16-bit.png", "star", "red", "blue"),
    ("one-bit-tall.png", "circle", "yellow", "purple"),
    ("tiny-20px.png", "heart", "red", "yellow"),
    ("thin-lines-4000px.png", "fish", "red", "green"),
    ("cloud.webp", "cloud", "white", "blue"),
    ("filled-shape.png", "heart", "purple", "yellow"),
    ("thick-marker.png", "star", "orange", "green"),
    ("yellow-pen.jpg", "circle", "red", "blue"),
    ("photo-of-paper.jpg", "circle", "blue", "red"),
    ("phone-photo-with-shadow.jpg", "house", "red", "blue"),
    ("chalk-on-board.jpg", "star", "yellow", "red"),
    ("animated.gif", "leaf", "red", "white"),
]


def upright_size(file: Path) -> tuple[int, int]:
    with Image.open(file) as picture:
        return ImageOps.exif_transpose(picture).size


def describe(name: str, shape: str, colour: str, ground: str) -> dict[str, Any]:
    size = upright_size(FOLDER / name)
    article = "an" if colour == "orange" else "a"
    return {
        "file": name,
        "prompt": f"{article} {colour} {shape} on a {ground} background",
        "seed": 1,
        "colour": colour,
        "ground": ground,
        "outline": (outline(shape, size) / np.array(size)).round(4).tolist(),
    }


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    make_plain_files()
    make_photos()
    descriptions = [describe(*drawing) for drawing in DRAWINGS]
    (FOLDER / "scribbles.json").write_text(json.dumps(descriptions) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
