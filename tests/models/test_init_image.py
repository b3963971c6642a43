# SPDX-License-Identifier: Apache-2.0
"""The picture that a request starts from, and the mask of its region: how they are read, fitted, kept and recorded."""

import io
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from diffusion_engine.capabilities import Capabilities
from diffusion_engine.errors import RequestError
from diffusion_engine.preprocessing import preprocess
from diffusion_engine.request_parser import parse_request
from diffusion_engine.request_state import GeneratedPicture, NullListener, RequestState
from drawings import as_file, pixels_of
from PIL import Image, ImageDraw

RED, GREEN, WHITE = (255, 0, 0), (0, 255, 0), (255, 255, 255)
SMALL = {"width": 96, "height": 96, "num_inference_steps": 2}


def halves(size: tuple[int, int] = (96, 96), mode: str = "RGB", left: Any = RED, right: Any = GREEN) -> Image.Image:
    picture = Image.new(mode, size, right)
    picture.paste(left, (0, 0, size[0] // 2, size[1]))
    return picture


def left_half(size: tuple[int, int] = (96, 96)) -> bytes:
    return as_file(halves(size, "L", 255, 0))


def preprocessed(capabilities: Capabilities, **values: Any) -> RequestState:
    request = parse_request({"prompt": b"x", **values}, capabilities)
    state = RequestState(request=request, listener=NullListener(), arrived=0.0)
    preprocess(state, capabilities, max_pixels=1_000_000)
    return state


def array(picture: Image.Image) -> npt.NDArray[Any]:
    return np.asarray(picture).astype(np.int16)


# ---- the fields


@pytest.mark.parametrize(
    ("values", "field", "code"),
    [
        ({"strength": 0.5}, "strength", "unsupported_parameter"),
        ({"mask": left_half()}, "mask", "unsupported_parameter"),
        ({"init_image": as_file(halves()), "mask_selects": b"black"}, "mask_selects", "unsupported_parameter"),
        ({"init_image": as_file(halves()), "strength": 0.0}, "strength", "out_of_range"),
        ({"init_image": as_file(halves()), "strength": 1.1}, "strength", "out_of_range"),
        ({"init_image": as_file(halves()), "strength": 0.3, "num_inference_steps": 3}, "strength", "out_of_range"),
        (
            {"init_image": as_file(halves()), "mask": left_half(), "mask_selects": b"red"},
            "mask_selects",
            "unknown_option",
        ),
        ({"init_image": as_file(halves()), "mask_blur": 3.0}, "mask_blur", "unsupported_parameter"),
        ({"init_image": as_file(halves()), "mask": left_half(), "mask_blur": 65.0}, "mask_blur", "out_of_range"),
        ({"init_image": b"x"}, "init_image", "invalid_base64"),
        ({"init_image": as_file(halves((2000, 1000)))}, "init_image", "image_too_large"),
        ({"init_image": as_file(halves()), "mask": as_file(halves())[:60]}, "mask", "truncated_image"),
        ({"init_image": as_file(halves()), "mask": left_half((96, 128))}, "mask", "unsupported_size"),
        ({"init_image": as_file(halves()), "mask": as_file(Image.new("L", (96, 96)))}, "mask", "empty_mask"),
        ({"init_image": as_file(halves()), "mask": left_half(), "mask_selects": b"transparent"}, "mask", "empty_mask"),
    ],
)
def test_invalid_input_is_rejected_with_the_fields_name(
    capabilities: Capabilities, values: dict[str, Any], field: str, code: str
) -> None:
    with pytest.raises(RequestError, match=f"`{field}`") as rejection:
        preprocessed(capabilities, **values)
    assert (rejection.value.field, rejection.value.code) == (field, code)


def test_strength_is_by_default_that_of_diffusers_and_1_with_a_mask(capabilities: Capabilities) -> None:
    picture = as_file(halves())
    assert preprocessed(capabilities).request.strength is None
    assert preprocessed(capabilities, init_image=picture).request.strength == 0.8
    assert preprocessed(capabilities, init_image=picture, mask=left_half()).request.strength == 1


# ---- fitting


def test_size_is_that_of_the_scribble_else_of_the_picture(capabilities: Capabilities) -> None:
    wide, tall = as_file(halves((200, 125))), as_file(halves((125, 200)))
    assert preprocessed(capabilities, init_image=wide).key[:2] == (160, 96)
    assert preprocessed(capabilities, init_image=wide, image=tall).key[:2] == (96, 160)
    sideways = io.BytesIO()
    exif = Image.Exif()
    exif[274] = 6
    halves((200, 125)).save(sideways, "JPEG", exif=exif)
    assert preprocessed(capabilities, init_image=sideways.getvalue()).key[:2] == (96, 160)


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", [3, 6])
def test_picture_is_turned_upright(capabilities: Capabilities, file_format: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    state = preprocessed(capabilities, init_image=as_file(halves(), file_format, exif=exif), width=96, height=96)
    turned = halves().rotate({3: 180, 6: -90}[orientation])
    assert np.abs(array(state.init_image) - array(turned))[20::50, 20::50].max() < 40


def test_other_shape_is_neither_cropped_nor_distorted(capabilities: Capabilities) -> None:
    state = preprocessed(
        capabilities, init_image=as_file(halves((64, 128))), mask=left_half((64, 128)), width=128, height=128
    )
    assert any("another shape" in note for note in state.notes)
    pixels, mask = array(state.init_image), array(state.mask)
    assert (pixels[:, :60] == RED).all()
    assert (pixels[:, 68:] == GREEN).all()
    assert (mask[:, :60] == 255).all()
    assert (mask[:, 68:] == 0).all()


def test_mask_of_another_size_is_resized_with_a_note(capabilities: Capabilities) -> None:
    state = preprocessed(capabilities, init_image=as_file(halves()), mask=left_half((192, 192)), **SMALL)
    assert state.notes == ["`mask` was resized from 192x192 to the size of `init_image`."]
    assert (array(state.mask)[:, :44] == 255).all()


MODES = {
    "RGB": halves(),
    "RGBA on white": halves(mode="RGBA", left=(255, 0, 0, 255), right=(0, 0, 0, 0)),
    "L": halves(mode="L", left=80, right=200),
    "1": halves(mode="1", left=0, right=1),
    "P": halves().convert("P"),
    "CMYK": halves().convert("CMYK"),
    "I;16": Image.fromarray(np.full((96, 96), 65535, np.uint16)),
}


@pytest.mark.parametrize("name", MODES)
def test_colours_of_every_mode_are_read(capabilities: Capabilities, name: str) -> None:
    picture = MODES[name]
    file = as_file(picture, "TIFF" if picture.mode == "CMYK" else "PNG")
    seen = array(preprocessed(capabilities, init_image=file, **SMALL).init_image)
    expected = array(
        Image.alpha_composite(Image.new("RGBA", (96, 96), "white"), picture.convert("RGBA")).convert("RGB")
    )
    if name == "I;16":
        expected = np.full_like(seen, 255)
    assert np.abs(seen - expected).max() <= 2


SELECTED = {
    "white": (left_half(), b"white"),
    "black": (as_file(halves(mode="L", left=0, right=255)), b"black"),
    "white, the rest transparent": (as_file(halves(mode="RGBA", left=WHITE, right=(255, 255, 255, 0))), b"white"),
    "black, the rest transparent": (as_file(halves(mode="RGBA", left=(0, 0, 0), right=(0, 0, 0, 0))), b"black"),
    "transparent": (as_file(halves(mode="RGBA", left=(255, 0, 0, 0), right=(255, 255, 255))), b"transparent"),
}


@pytest.mark.parametrize("name", SELECTED)
def test_mask_selects_the_left_half(capabilities: Capabilities, name: str) -> None:
    mask, selects = SELECTED[name]
    state = preprocessed(capabilities, init_image=as_file(halves()), mask=mask, mask_selects=selects, **SMALL)
    assert (array(state.mask)[:, :48] == 255).all()
    assert (array(state.mask)[:, 48:] == 0).all()


def test_mask_blur_makes_a_soft_border(capabilities: Capabilities) -> None:
    values = {"init_image": as_file(halves()), "mask": left_half(), **SMALL}
    mask = array(preprocessed(capabilities, **values, mask_blur=4.0).mask)
    assert (np.diff(mask[48]) <= 0).all()
    assert mask[48, 40] > mask[48, 47] > 100 > mask[48, 54] > 0
    assert (mask[:, [0, 95]] == [255, 0]).all()


# ---- pictures


def test_pixels_outside_the_mask_are_unchanged_and_grey_ones_are_blended(
    generate: Callable[..., GeneratedPicture],
) -> None:
    mask = halves(mode="L", left=255, right=0)
    ImageDraw.Draw(mask).rectangle((48, 0, 60, 96), fill=100)
    made = generate(**SMALL, init_image=as_file(halves()), mask=as_file(mask))
    pixels, initial = pixels_of(made.content), array(halves())
    assert (pixels[:, 61:] == initial[:, 61:]).all()
    assert (pixels[:, 48:61] != initial[:, 48:61]).any()
    assert np.abs(pixels - initial)[:, :48].mean() > 10


def test_region_smaller_than_a_latent_cell_gets_a_note(generate: Callable[..., GeneratedPicture]) -> None:
    mask = Image.new("L", (96, 96))
    mask.paste(255, (50, 50, 52, 52))
    assert "nothing was painted" in generate(**SMALL, init_image=as_file(halves()), mask=as_file(mask)).info["notes"][0]


def test_progress_counts_the_steps_that_are_made(running_engine: Any) -> None:
    from listening import submit

    one = submit(
        running_engine, width=96, height=96, num_inference_steps=10, strength=0.3, init_image=as_file(halves())
    )
    one.picture()
    assert {num_steps for _, num_steps, _ in one.recorder.progress_events} == {3}


def test_receipt_has_strength_and_the_hashes_of_both_pictures(generate: Callable[..., GeneratedPicture]) -> None:
    first = generate(**SMALL, init_image=as_file(halves()), mask=left_half(), strength=0.5)
    receipt = json.loads(Image.open(io.BytesIO(first.content)).info["fastapi-triton"])
    assert receipt["strength"] == first.info["strength"] == 0.5
    names = ("init_image_sha256", "mask_sha256")
    assert all(len(receipt[name]) == 64 and receipt[name] == first.info[name] for name in names)
    again = generate(**SMALL, init_image=as_file(halves(), "BMP"), mask=left_half(), strength=0.5)
    assert [again.info[name] for name in names] == [first.info[name] for name in names]
    assert again.info["pixels_sha256"] == first.info["pixels_sha256"]
    plain = generate(**SMALL)
    assert not {"strength", "mask_selects", *names} & set(plain.info)
