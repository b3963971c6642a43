# SPDX-License-Identifier: Apache-2.0
"""Picture files as tensors, and tensors as PNG files, compared with Pillow and numpy."""

import asyncio
import base64
import io
import threading
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import ExifTags, Image, ImageOps

from fastapi_triton.core.errors import InferenceError, TooLargeError
from fastapi_triton.endpoints import image_tensors, images, json_codec
from fastapi_triton.endpoints.images import ImageLimits, PictureBudget
from fastapi_triton.endpoints.value_errors import InvalidValueError
from fastapi_triton.triton.datatypes import BY_WIRE
from fastapi_triton.triton.image_dims import image_dims
from fastapi_triton.triton.model_config import TensorConfig
from support.picture_bombs import as_file, png_that_says

LIMITS = ImageLimits(1_000_000)
RANDOM = np.random.default_rng(7)
COLOURS = Image.fromarray(RANDOM.integers(0, 256, (37, 53, 3), np.uint8))


def tensor(wire: str, *dims: int, **fields: Any) -> TensorConfig:
    return TensorConfig("x", BY_WIRE[wire], dims, **fields)


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def read(data: bytes, config: TensorConfig, limits: ImageLimits = LIMITS) -> npt.NDArray[Any]:
    return json_codec.decode(text(data), config, limits)


@pytest.mark.parametrize(
    ("dims", "image_format", "found"),
    [
        ((3, 224, 225), "", (True, 3, 224, 225, None)),
        ((1, 8, 9), "", (True, 1, 8, 9, None)),
        ((224, 225, 3), "FORMAT_NONE", (False, 3, 224, 225, None)),
        ((28, 28, 1), "", (False, 1, 28, 28, None)),
        ((-1, -1, 3), "", (False, 3, -1, -1, None)),
        ((3, -1, -1), "", (True, 3, -1, -1, None)),
        ((1, -1, -1), "", (True, 1, -1, -1, None)),
        ((1, 3, 224, 225), "", (True, 3, 224, 225, 1)),
        ((-1, 3, 224, 225), "", (True, 3, 224, 225, -1)),
        ((1, -1, -1, 3), "", (False, 3, -1, -1, 1)),
        ((1, 1, 28, 28), "", (True, 1, 28, 28, 1)),
        ((3, 8, 3), "FORMAT_NCHW", (True, 3, 8, 3, None)),
        ((3, 8, 3), "FORMAT_NHWC", (False, 3, 3, 8, None)),
    ],
)
def test_dims_of_pictures(dims: tuple[int, ...], image_format: str, found: tuple[Any, ...]) -> None:
    image = image_dims(dims, "FP32", image_format)
    assert image is not None
    assert (image.channels_first, image.num_channels, image.height, image.width, image.leading) == found


@pytest.mark.parametrize(
    ("dims", "wire", "image_format"),
    [
        ((3, 8, 3), "FP32", ""),  # the channels may be first or last
        ((3, 8, 9), "UINT8", "FORMAT_NHWC"),
        ((3, 8, 9), "INT64", ""),
        ((1, 1, 1), "FP32", ""),
        ((4, 8, 9), "FP32", ""),
        ((2, 3, 8, 9), "FP32", ""),
        ((3, 0, 9), "FP32", ""),
        ((8, 9), "FP32", ""),
        ((-1, -1, -1), "FP32", ""),
    ],
)
def test_other_dims_hold_no_picture(dims: tuple[int, ...], wire: str, image_format: str) -> None:
    assert image_dims(dims, wire, image_format) is None


IMAGENET = (np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225]))
NORMALIZED = {
    "none": lambda pixels: pixels,
    "unit": lambda pixels: pixels / 255,
    "inception": lambda pixels: pixels / 127.5 - 1,
    "imagenet": lambda pixels: (pixels / 255 - IMAGENET[0]) / IMAGENET[1],
}


@pytest.mark.parametrize("normalize", NORMALIZED)
@pytest.mark.parametrize("wire", ["FP32", "FP16"])
def test_a_picture_is_stretched_and_normalized(normalize: str, wire: str) -> None:
    config = tensor(wire, 3, 16, 24, normalize=normalize)
    pixels = np.asarray(COLOURS.resize((24, 16), Image.Resampling.BILINEAR)).astype(np.float64)
    wanted = NORMALIZED[normalize](pixels).transpose(2, 0, 1)
    array = read(as_file(COLOURS), config)
    assert (array.dtype, array.flags.c_contiguous) == (BY_WIRE[wire].numpy, True)
    np.testing.assert_allclose(
        array, wanted, rtol=1e-3 if wire == "FP16" else 1e-5, atol=2e-3 if wire == "FP16" else 1e-6
    )
    # Back as a PNG, it is the stretched picture.
    png = json_codec.encode(array, config, "png")
    error = np.abs(np.asarray(Image.open(io.BytesIO(base64.b64decode(png)))).astype(int) - pixels)
    assert error.max() <= (1 if wire == "FP16" else 0)


@pytest.mark.parametrize(
    ("wire", "dims", "wanted"),
    [
        ("UINT8", (-1, -1, 3), np.asarray(COLOURS)),
        ("UINT8", (3, -1, -1), np.asarray(COLOURS).transpose(2, 0, 1)),
        ("UINT8", (-1, -1, 1), np.asarray(COLOURS.convert("L"))[:, :, None]),
        ("UINT8", (1, -1, -1), np.asarray(COLOURS.convert("L"))[None]),
        ("UINT8", (1, 3, -1, -1), np.asarray(COLOURS).transpose(2, 0, 1)[None]),
        ("UINT8", (-1, -1, -1, 3), np.asarray(COLOURS)[None]),
        # A single fixed side keeps the aspect ratio.
        ("UINT8", (20, -1, 3), np.asarray(COLOURS.resize((29, 20), Image.Resampling.BILINEAR))),
        ("UINT8", (-1, 20, 3), np.asarray(COLOURS.resize((20, 14), Image.Resampling.BILINEAR))),
    ],
)
def test_layouts_sizes_and_colours(wire: str, dims: tuple[int, ...], wanted: npt.NDArray[Any]) -> None:
    config = tensor(wire, *dims)
    array = read(as_file(COLOURS), config)
    assert array.dtype == np.uint8
    np.testing.assert_array_equal(array, wanted)
    png = json_codec.encode(array, config, "png")
    assert isinstance(png, list) == (dims[:-3] == (-1,))  # any number of pictures
    (png,) = png if isinstance(png, list) else [png]
    np.testing.assert_array_equal(read(base64.b64decode(png), config), wanted)


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP", "GIF", "BMP"])
def test_every_format_is_decoded_as_pillow_does(file_format: str) -> None:
    data = as_file(COLOURS, file_format)
    wanted = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    np.testing.assert_array_equal(read(data, tensor("UINT8", -1, -1, 3)), wanted)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP"])
def test_photos_become_upright(orientation: int, file_format: str) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    data = as_file(COLOURS, file_format, exif=exif)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    np.testing.assert_array_equal(read(data, tensor("UINT8", -1, -1, 3)), upright)
    # The single free side is that of the upright picture.
    assert read(data, tensor("UINT8", 3, 20, -1)).shape[2] == round(upright.shape[1] * 20 / upright.shape[0])


def test_transparency_becomes_white() -> None:
    picture = Image.new("RGBA", (2, 1), (0, 0, 200, 255))
    picture.putpixel((1, 0), (255, 0, 0, 0))
    for data in (as_file(picture), as_file(picture, "WEBP", lossless=True), as_file(picture.quantize())):
        assert read(data, tensor("UINT8", -1, -1, 3)).tolist() == [[[0, 0, 200], [255, 255, 255]]]


def test_16_bits_of_grey_are_scaled_not_clipped() -> None:
    values = np.array([[0, 255, 0x8000, 0xFFFF]], np.uint16)
    assert read(as_file(Image.fromarray(values)), tensor("UINT8", 1, -1, -1)).tolist() == [[[0, 0, 0x80, 0xFF]]]


def test_a_leading_free_dim_takes_several_pictures_of_one_size() -> None:
    config, one, other = tensor("UINT8", -1, 3, -1, -1), text(as_file(COLOURS)), text(as_file(COLOURS.rotate(90)))
    array = json_codec.decode([one, f"data:image/png;base64,{other}"], config, LIMITS)
    assert array.shape == (2, 3, 37, 53)
    assert len(json_codec.encode(array, config, "png")) == 2
    with pytest.raises(InvalidValueError, match="same size") as raised:
        json_codec.decode([one, text(as_file(COLOURS.resize((5, 5))))], config, LIMITS)
    assert [(each.location, each.code) for each in raised.value.problems] == [((1,), "wrong_shape")]
    with pytest.raises(InvalidValueError, match="not base64") as raised:
        json_codec.decode([one, "!"], config, LIMITS)
    assert raised.value.problems[0].location == (1,)
    with pytest.raises(InvalidValueError, match="the model takes 1"):
        json_codec.decode([one, one], tensor("UINT8", 1, 3, -1, -1), LIMITS)


def test_values_outside_the_range_are_clipped_and_nan_is_black() -> None:
    config = tensor("FP32", 1, 1, -1, normalize="inception", format="FORMAT_NCHW")
    array = np.array([[[-9, -1, 0, 1, 9, np.nan, np.inf, -np.inf, 3e38]]], np.float32)
    png = base64.b64decode(json_codec.encode(array, config, "png"))
    assert np.asarray(Image.open(io.BytesIO(png))).tolist() == [[0, 0, 128, 255, 255, 0, 255, 0, 255]]


def test_other_values_of_an_image_tensor_stay_possible() -> None:
    config = tensor("FP32", 1, 2, 2)
    assert json_codec.decode([[[1, 2], [3, 4]]], config, LIMITS).tolist() == [[[1, 2], [3, 4]]]
    assert json_codec.decode([[[1, "NaN"], [3, 4]]], config, LIMITS).shape == (1, 2, 2)
    assert np.isnan(json_codec.decode("NaN", tensor("FP32", 1, -1, -1), LIMITS))
    with pytest.raises(InvalidValueError, match="or a picture as base64 text"):
        json_codec.decode(5, config, LIMITS)


def test_a_picture_in_the_object_of_an_array_is_explained() -> None:
    for dims in ((3, 8, 8), (3, 8, -1)):
        with pytest.raises(InvalidValueError, match="send a picture as text, without the object"):
            json_codec.decode({"base64": text(as_file(COLOURS))}, tensor("FP32", *dims), LIMITS)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "not_an_image"),
        (b"hello", "not_an_image"),
        (as_file(COLOURS, "TIFF"), "not_an_image"),
        (as_file(COLOURS, "JPEG")[:300], "truncated_image"),
        (as_file(COLOURS)[:-200], "truncated_image"),
        (png_that_says(500, 500), "truncated_image"),
    ],
)
def test_files_that_cannot_be_decoded_are_rejected(data: bytes, code: str) -> None:
    with pytest.raises(InvalidValueError) as raised:
        read(data, tensor("FP32", 3, 8, 8))
    assert [each.code for each in raised.value.problems] == [code]


def test_large_pictures_are_rejected_before_they_are_decoded() -> None:
    with pytest.raises(TooLargeError, match="`x` has 5000 x 4000 pixels"):
        read(png_that_says(5000, 4000), tensor("FP32", 3, 8, 8))
    pictures = text(as_file(COLOURS))  # 1,961 pixels each
    for budget, problem in (
        (PictureBudget(3000, 10**6), "more than 3,000 pixels together"),
        (PictureBudget(10**6, 7000), "tensors of more than 7,000 bytes"),
    ):
        with pytest.raises(TooLargeError, match=problem):
            json_codec.decode([pictures] * 2, tensor("FP32", -1, 3, 20, 30), ImageLimits(10**6, budget=budget))


async def test_large_pictures_are_decoded_one_at_a_time_and_keep_no_thread_from_small_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waiting, may_end = threading.Semaphore(0), threading.Event()
    decoding: list[int] = []

    def decoded(*arguments: Any) -> Image.Image:
        width = arguments[1].width
        decoding.append(width)
        if width == 53:
            waiting.release()
            assert may_end.wait(10)
            assert decoding.count(53) == 1
            decoding.remove(53)
        return COLOURS

    def work(body: bytes, limits: ImageLimits) -> npt.NDArray[Any]:
        return read(body, tensor("UINT8", -1, -1, 3), limits)

    monkeypatch.setattr(image_tensors, "_decoded", decoded)
    monkeypatch.setattr(image_tensors, "_LARGE_PIXELS", 37 * 53 - 1)
    large, small = as_file(COLOURS), as_file(COLOURS.resize((5, 5)))
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(image_tensors.read_in_thread(work, large, LIMITS))
            for _ in range(image_tensors._MAX_THREADS + 1)
        ]
        await asyncio.to_thread(waiting.acquire)
        await image_tensors.read_in_thread(work, small, LIMITS)
        may_end.set()
    assert [task.result()[1].num_normalized for task in tasks] == [0] * len(tasks)
    assert decoding == [5]


def test_a_file_that_pillow_reads_as_another_size_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    examine = images.examine
    monkeypatch.setattr(images, "examine", lambda *given, **options: replace(examine(*given, **options), width=5))
    with pytest.raises(InvalidValueError, match="damaged"):
        read(as_file(COLOURS), tensor("UINT8", -1, -1, 3))


def test_an_output_without_pixels_is_an_error_of_the_model() -> None:
    with pytest.raises(InferenceError, match=r"`x` has the shape \[0, 4, 3\]: no pixels"):
        json_codec.encode(np.zeros((0, 4, 3), np.uint8), tensor("UINT8", -1, -1, 3), "png")


async def test_a_request_has_a_budget() -> None:
    _, budget = await image_tensors.read_in_thread(lambda body, _: body, b"", ImageLimits(1000))
    for _ in range(image_tensors.MAX_FULL_SIZE_PICTURES):
        budget.spend(1000, 10, is_normalized=True)
    with pytest.raises(TooLargeError):
        budget.spend(1, 10, is_normalized=True)
