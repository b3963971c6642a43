# SPDX-License-Identifier: Apache-2.0
"""The size of a picture, and larger ones that are upscaled."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from diffusion_engine.capabilities import Capabilities, Defaults, Limits
from diffusion_engine.errors import RequestError
from diffusion_engine.picture_sizes import choose_size
from diffusion_engine.request_state import GeneratedPicture
from drawings import as_file, pixels_of
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from fastapi_triton.pictures.text_to_image import Capabilities as FrontendCapabilities

SMALL_SIZES = ((128, 128), (96, 96), (144, 112), (96, 160), (160, 96), (192, 128), (256, 256))


@pytest.fixture
def upscaling() -> Capabilities:
    capabilities = Capabilities(name="small", sizes=SMALL_SIZES, limits=Limits(max_upscale=4.0))
    return replace(capabilities, defaults=replace(capabilities.defaults, width=128, height=128))


@pytest.fixture
def exact(upscaling: Capabilities) -> Capabilities:
    return replace(upscaling, limits=Limits())


@pytest.mark.parametrize(
    ("scribble_size", "size"),
    [((512, 512), (128, 128)), ((4000, 3000), (144, 112)), ((300, 520), (96, 160)), ((1920, 1080), (160, 96))],
)
def test_without_width_and_height_the_size_has_the_shape_of_the_scribble(
    upscaling: Capabilities, scribble_size: tuple[int, int], size: tuple[int, int]
) -> None:
    chosen = choose_size(upscaling, None, None, scribble_size=scribble_size)
    assert (chosen.made, chosen.sent) == (size, size)


def test_supported_size_is_used_with_any_scribble(upscaling: Capabilities) -> None:
    assert choose_size(upscaling, 192, 128, scribble_size=(10, 500)).made == (192, 128)
    assert choose_size(upscaling, 192, None, scribble_size=(600, 400)).made == (192, 128)


@pytest.mark.parametrize(
    ("width", "height", "field", "nearest"),
    [(512, 512, "width", "256x256"), (128, 130, "height", "128x128"), (130, None, "width", "128x128")],
)
def test_unsupported_size_is_rejected_with_the_nearest_one(
    exact: Capabilities, width: int, height: int | None, field: str, nearest: str
) -> None:
    with pytest.raises(RequestError, match=f"nearest size is {nearest}") as rejection:
        choose_size(exact, width, height, scribble_size=(100, 100))
    assert (rejection.value.code, rejection.value.field) == ("unsupported_size", field)


@pytest.mark.parametrize(
    ("width", "height", "made", "sent"),
    [
        (512, 512, (128, 128), (512, 512)),  # from the default's area, not from the largest size
        (500, 500, (128, 128), (500, 500)),
        (512, 400, (144, 112), (512, 400)),  # stretched by 0.5%
        (320, None, (160, 96), (320, 192)),  # the shape of the scribble
        (None, 200, (160, 96), (333, 200)),
    ],
)
def test_larger_size_is_upscaled_from_one_of_its_shape(
    upscaling: Capabilities, width: int | None, height: int | None, made: object, sent: object
) -> None:
    chosen = choose_size(upscaling, width, height, scribble_size=(400, 240))
    assert (chosen.made, chosen.sent, chosen.is_upscaled) == (made, sent, True)


@pytest.mark.parametrize(("width", "height"), [(513, 513), (500, 200), (100, 100), (10**9, 10**9)])
def test_too_large_smaller_and_oblong_sizes_are_refused(upscaling: Capabilities, width: int, height: int) -> None:
    with pytest.raises(RequestError, match="up to 4 times as wide are upscaled"):
        choose_size(upscaling, width, height, scribble_size=(100, 100))


@pytest.mark.parametrize(("width", "height"), [(0, 512), (512, 0), (-512, None), (None, -1), (-5, 5), (-512, -512)])
def test_sides_below_one_pixel_are_refused(upscaling: Capabilities, width: int | None, height: int | None) -> None:
    with pytest.raises(RequestError) as rejection:
        choose_size(upscaling, width, height, scribble_size=(100, 100))
    assert rejection.value.code == "unsupported_size"


SIDES = st.integers(2, 40).map(lambda eighths: 8 * eighths)


@given(
    sizes=st.lists(st.tuples(SIDES, SIDES), min_size=1, max_size=8),
    max_upscale=st.sampled_from([1.0, 1.5, 2.0, 4.0, 8.0]),
    wanted=st.tuples(st.integers(1, 3000), st.integers(1, 3000)),
)
@example(sizes=[(32, 16), (88, 64), (232, 168)], max_upscale=1.5, wanted=(2618, 1819))  # two sizes of one shape
@settings(max_examples=500)
def test_the_engine_makes_every_size_that_the_frontend_chooses(
    sizes: list[tuple[int, int]], max_upscale: float, wanted: tuple[int, int]
) -> None:
    limits = Limits(max_upscale=max_upscale)
    defaults = Defaults(width=sizes[0][0], height=sizes[0][1])
    capabilities = Capabilities(name="any", sizes=tuple(sizes), limits=limits, defaults=defaults)
    described = FrontendCapabilities.of_description(capabilities.describe(), name="any")
    size = described.nearest_size(wanted)
    assert choose_size(capabilities, *size, scribble_size=(100, 100)).sent == size


# ---- upscaled pictures


def test_larger_picture_is_the_made_one_upscaled_with_a_note(generate: Callable[..., GeneratedPicture]) -> None:
    values = {"num_inference_steps": 2, "seed": 3, "output_format": b"png"}
    made = generate(**values, width=128, height=128)
    larger = generate(**values, width=256 + 44, height=256 + 44)
    expected = Image.fromarray(pixels_of(made.content).astype(np.uint8)).resize((300, 300), Image.Resampling.LANCZOS)
    assert (pixels_of(larger.content) == np.asarray(expected)).all()
    assert larger.info["notes"][0].endswith("makes pictures of 128x128, so this one was upscaled to 300x300.")
    assert (larger.info["width"], larger.info["height"], larger.info["upscaled_from"]) == (300, 300, (128, 128))
    assert "upscaled_from" not in made.info


def test_kept_region_of_a_larger_picture_is_as_sharp_as_it_was(generate: Callable[..., GeneratedPicture]) -> None:
    initial = Image.effect_noise((300, 300), 90).convert("RGB")
    mask = Image.new("L", (300, 300))
    mask.paste(255, (0, 0, 150, 300))
    larger = generate(
        num_inference_steps=2,
        output_format=b"png",
        width=300,
        height=300,
        init_image=as_file(initial),
        mask=as_file(mask),
    )
    pixels = pixels_of(larger.content)
    assert (pixels[:, 150:] == np.asarray(initial)[:, 150:]).all()
    assert (pixels[:, :150] != np.asarray(initial)[:, :150]).any()
