# SPDX-License-Identifier: Apache-2.0
"""Reading scribbles from picture files as white strokes on black."""

import json
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from diffusion_engine.scribble import Scribble, read_scribble
from drawings import EXAMPLES, SCRIBBLES, as_file, circle, scribble_files
from PIL import Image, ImageDraw, ImageFilter, ImageOps


def read(picture: Image.Image | bytes, invert: str = "auto") -> Scribble:
    content = picture if isinstance(picture, bytes) else as_file(picture)
    return read_scribble(content, max_pixels=50_000_000, invert=invert)


def control(picture: Image.Image | bytes, size: tuple[int, int] = (128, 128), invert: str = "auto") -> npt.NDArray[Any]:
    """The control image as an array: True for white."""
    image = read(picture, invert).fit(*size)
    assert (image.size, image.mode) == (size, "RGB")
    pixels = np.asarray(image)
    assert set(np.unique(pixels)) <= {0, 255}
    strokes: npt.NDArray[Any] = pixels[:, :, 0] == 255
    return strokes


def overlap(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> float:
    """Intersection over union, with both one pixel wider, because a line may be off by one."""
    one, other = (
        np.asarray(Image.fromarray(mask.astype(np.uint8) * 255).filter(ImageFilter.MaxFilter(3))) > 0
        for mask in (one, other)
    )
    return float((one & other).sum() / (one | other).sum())


REFERENCE = control(circle(ink="white", ground="black"))


def test_white_on_black_is_unchanged() -> None:
    scribble = read(circle(ink="white", ground="black"))
    assert not scribble.inverted
    assert scribble.notes() == []


@pytest.mark.parametrize(
    ("ink", "ground"),
    [("black", "white"), ("yellow", "white"), ("blue", "black"), ("red", "green"), ("#777", "#bbb"), ("#557", "#333")],
)
def test_any_ink_on_any_background_gives_the_same_strokes(ink: str, ground: str) -> None:
    assert overlap(control(circle(ink=ink, ground=ground)), REFERENCE) > 0.95


def test_dark_strokes_are_inverted_with_a_note() -> None:
    scribble = read(circle())
    assert scribble.inverted
    assert scribble.describe()["inverted"] is True
    assert any("inverted" in note for note in scribble.notes())


@pytest.mark.parametrize(("ink", "is_dark"), [("black", True), ("white", False), ("yellow", False), ("#700", True)])
def test_transparent_background_is_filled_in_contrast_to_the_strokes(ink: str, is_dark: bool) -> None:
    strokes = circle(ink="white", ground="black").convert("L")
    picture = Image.new("RGBA", strokes.size, ink)
    picture.putalpha(strokes)
    scribble = read(picture)
    assert (scribble.flattened, scribble.inverted) == (True, is_dark)
    assert overlap(control(picture), REFERENCE) > 0.95


def test_strokes_on_cut_out_paper_are_found() -> None:
    picture = circle().convert("RGBA")
    corners = Image.new("L", picture.size, 0)
    ImageDraw.Draw(corners).rounded_rectangle((4, 4, 251, 251), 20, fill=255)
    picture.putalpha(corners)
    assert overlap(control(picture), REFERENCE) > 0.95


def test_opaque_alpha_channel_is_ignored() -> None:
    picture = circle().convert("RGBA")
    assert not read(picture).flattened
    assert overlap(control(picture), REFERENCE) > 0.95


def test_invert_overrides_the_detection() -> None:
    assert (control(circle(), invert="yes") == control(circle())).all()
    assert control(circle(), invert="no").mean() > 0.8
    assert control(circle(ink="white", ground="black"), invert="yes").mean() > 0.8


def test_strokes_that_fill_most_of_the_scribble_get_a_note() -> None:
    assert any("set `invert`" in note for note in read(circle(), "no").notes())


@pytest.mark.parametrize("ground", ["white", "black", "#808080"])
@pytest.mark.parametrize("size", [(512, 512), (1, 1), (9, 900)])
def test_empty_scribble_gives_black_and_a_note(ground: str, size: tuple[int, int]) -> None:
    picture = Image.new("RGB", size, ground)
    assert not control(picture).any()
    assert any("no strokes" in note for note in read(picture).notes())


def test_fully_transparent_scribble_gives_black() -> None:
    assert not control(Image.new("RGBA", (100, 100), (0, 0, 0, 0))).any()


@pytest.mark.parametrize("invert", ["yes", "no"])
def test_empty_scribble_is_black_with_any_invert(invert: str) -> None:
    assert not control(Image.new("L", (100, 100), 255), invert=invert).any()


@pytest.mark.parametrize(("side", "pen"), [(4000, 2), (4000, 1), (2048, 1), (1024, 1), (700, 1)])
def test_thin_lines_of_a_large_scribble_survive(side: int, pen: int) -> None:
    assert overlap(control(circle((side, side), pen=pen)), REFERENCE) > 0.5


@pytest.mark.parametrize("side", [16, 20, 24, 64, 100])
def test_tiny_scribble_becomes_thin_lines(side: int) -> None:
    strokes = control(circle((side, side), pen=1))
    assert overlap(strokes, REFERENCE) > 0.2  # one pixel of the scribble is several of the control image
    assert 0.01 < strokes.mean() < 0.12


def test_aspect_ratio_is_kept_on_black() -> None:
    strokes = control(circle((300, 300)), (160, 96))
    columns, rows = np.flatnonzero(strokes.any(axis=0)), np.flatnonzero(strokes.any(axis=1))
    assert abs(np.ptp(columns) - np.ptp(rows)) <= 1
    assert abs(columns.mean() - 79.5) < 1.5


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_turns_the_scribble_upright(orientation: int) -> None:
    upright = Image.new("L", (200, 160), 255)
    ImageDraw.Draw(upright).line((30, 30, 30, 130, 170, 130), fill=0, width=5)
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # the transposition that a camera stores
    stored = upright if orientation == 1 else upright.transpose(Image.Transpose(undo[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    scribble = read(as_file(stored, "JPEG", exif=exif, quality=95))
    assert scribble.size == (200, 160)
    assert scribble.rotated == (orientation != 1)
    assert overlap(np.asarray(scribble.fit(160, 128))[:, :, 0] > 0, control(upright, (160, 128))) > 0.8


@pytest.mark.parametrize("scale", [257, 16])
def test_sixteen_bit_grey_is_scaled_not_clipped(scale: int) -> None:
    picture = Image.fromarray(np.asarray(circle().convert("L")).astype(np.uint16) * scale)
    assert picture.mode == "I;16"
    assert overlap(control(picture), REFERENCE) > 0.9


def test_filled_shape_stays_filled() -> None:
    picture = Image.new("L", (512, 512), 255)
    ImageDraw.Draw(picture).ellipse((60, 60, 450, 450), fill=0)
    assert control(picture)[34:94, 34:94].all()


def lit_from_one_side(picture: Image.Image, darkest: float, seed: int = 1) -> Image.Image:
    pixels = np.asarray(picture.convert("L")).astype(np.float32)
    light = np.linspace(1.0, darkest, pixels.shape[1])
    grain = np.random.default_rng(seed).normal(0, 4, pixels.shape)
    return Image.fromarray(np.clip(pixels * light + grain, 0, 255).astype(np.uint8))


@pytest.mark.parametrize("darkest", [0.8, 0.6, 0.4, 0.25])
@pytest.mark.parametrize(("ink", "ground"), [("#404040", "#d8d8d8"), ("#e8e8e8", "#404040")])
def test_uneven_light_is_removed(darkest: float, ink: str, ground: str) -> None:
    photo = lit_from_one_side(circle((640, 640), ink=ink, ground=ground, pen=9), darkest)
    assert overlap(control(photo), REFERENCE) > 0.6


def test_bare_paper_in_uneven_light_has_no_strokes() -> None:
    photo = lit_from_one_side(Image.new("L", (640, 480), 210), 0.5)
    assert control(photo).mean() < 0.002


def test_frame_around_the_page_does_not_change_the_polarity() -> None:
    page = ImageOps.expand(circle((500, 500)), 2, "black")
    assert read(page).inverted


def inside_of(drawing: dict[str, Any], size: tuple[int, int]) -> npt.NDArray[Any]:
    """An array of this size: True within the drawn outline."""
    scribble_size = read((SCRIBBLES / drawing["file"]).read_bytes()).size
    scale = min(size[0] / scribble_size[0], size[1] / scribble_size[1])
    points = np.array(drawing["outline"]) * np.array(scribble_size) * scale
    points += (np.array(size) - np.array(scribble_size) * scale) / 2
    mask = Image.new("1", size)
    ImageDraw.Draw(mask).polygon([tuple(point) for point in points], fill=1)
    return np.asarray(mask)


@pytest.mark.parametrize("drawing", scribble_files(), ids=lambda drawing: drawing["file"])
def test_every_sample_file_gives_the_drawn_outline(drawing: dict[str, Any]) -> None:
    strokes = control((SCRIBBLES / drawing["file"]).read_bytes())
    inside = Image.fromarray(inside_of(drawing, (128, 128)))
    filled = np.asarray(inside)
    edge = np.asarray(inside.convert("L").filter(ImageFilter.MaxFilter(3))) != np.asarray(
        inside.convert("L").filter(ImageFilter.MinFilter(3))
    )
    drawn = filled if drawing["file"] == "filled-shape.png" else edge
    assert overlap(strokes, drawn) > 0.5


def test_animation_gives_its_first_frame_with_a_note() -> None:
    scribble = read((SCRIBBLES / "animated.gif").read_bytes())
    assert scribble.num_frames == 2
    assert any("first of 2 frames" in note for note in scribble.notes())


def test_examples_are_scribbles_with_a_prompt() -> None:
    examples = json.loads((EXAMPLES / "examples.json").read_text(encoding="utf-8"))
    assert {example["file"] for example in examples} == {file.name for file in EXAMPLES.glob("*.png")}
    for example in examples:
        scribble = read((EXAMPLES / example["file"]).read_bytes())
        assert (scribble.size, scribble.inverted) == ((512, 512), True)
        assert 0.01 < scribble.strokes.mean() < 0.15
        assert example["prompt"]
        assert example["seed"] >= 0
