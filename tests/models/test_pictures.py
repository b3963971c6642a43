# SPDX-License-Identifier: Apache-2.0
import base64
import contextlib
import io

import numpy as np
import pytest
from diffusion_engine.errors import RequestError
from diffusion_engine.pictures import encode_picture, examine, open_picture, read_picture_file
from drawings import as_file, circle
from PIL import Image

PNG = as_file(circle((64, 64)))
TEXT = base64.b64encode(PNG)


def wrapped(text: bytes) -> bytes:
    return b"\r\n".join(text[start : start + 76] for start in range(0, len(text), 76)) + b"\n"


@pytest.mark.parametrize(
    "value",
    [
        TEXT,
        wrapped(TEXT),
        b"data:image/png;base64," + TEXT,
        b"DATA:;base64," + TEXT,
        b" data:image/png;base64,\n" + TEXT,
    ],
)
def test_base64_may_have_line_breaks_and_a_data_url_prefix(value: bytes) -> None:
    file = read_picture_file(value)
    assert file.content == PNG
    assert file.is_base64


def test_raw_bytes_stay_as_they_are() -> None:
    file = read_picture_file(PNG)
    assert file.content == PNG
    assert not file.is_base64


@pytest.mark.parametrize(
    "value",
    [
        b"not base64!",
        TEXT[:-1],
        TEXT + b"====",
        TEXT[:40] + b"*" + TEXT[40:],
        TEXT.replace(b"+", b"-").replace(b"/", b"_") + b"-_-_",
        b"data:image/png," + TEXT,
        b"https://example.com/scribble.png",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    ],
)
def test_text_that_is_not_base64_is_rejected(value: bytes) -> None:
    with pytest.raises(RequestError) as rejection:
        read_picture_file(value)
    assert (rejection.value.code, rejection.value.field) == ("invalid_base64", "image")


@pytest.mark.parametrize("value", [b"", b"\n", b"data:image/png;base64,"])
def test_empty_input_is_rejected(value: bytes) -> None:
    with pytest.raises(RequestError, match="empty"):
        read_picture_file(value)


def open_limited(content: bytes, max_pixels: int = 1_000_000) -> Image.Image:
    structure = examine(content, max_pixels=max_pixels)
    return open_picture(structure.essential(content), structure)


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_common_formats_are_opened(file_format: str) -> None:
    assert open_limited(as_file(circle((64, 48)), file_format)).size == (64, 48)


@pytest.mark.parametrize("content", [b"\x00\x01\x02", b"%PDF-1.7 \xff", as_file(circle(), "PPM"), bytes(1000)])
def test_bytes_that_are_not_a_picture_are_rejected(content: bytes) -> None:
    with pytest.raises(RequestError) as rejection:
        open_limited(content)
    assert (rejection.value.code, rejection.value.field) == ("not_an_image", "image")


@pytest.mark.parametrize("part", [0.02, 0.3, 0.9])
@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP"])
def test_cut_off_file_is_rejected(file_format: str, part: float) -> None:
    content = as_file(circle((256, 256)), file_format)
    with pytest.raises(RequestError) as rejection:
        open_limited(content[: max(16, int(len(content) * part))])
    assert rejection.value.code == "truncated_image"


@pytest.mark.parametrize(("side", "file_format"), [(3000, "PNG"), (3000, "WEBP"), (20_000, "PNG")])
def test_too_many_pixels_are_rejected_by_the_header(side: int, file_format: str) -> None:
    content = as_file(Image.new("1" if file_format == "PNG" else "L", (side, side)), file_format)
    with pytest.raises(RequestError) as rejection:
        open_limited(content)
    assert rejection.value.code == "image_too_large"


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
@pytest.mark.filterwarnings("ignore")
def test_damaged_files_are_opened_or_rejected(file_format: str) -> None:
    content = as_file(circle((48, 48)), file_format)
    rng = np.random.default_rng(1)
    for _ in range(300):
        damaged = np.frombuffer(content, np.uint8).copy()
        places = rng.integers(0, min(len(content), 400), rng.integers(1, 6))
        damaged[places] = rng.integers(0, 256, len(places))
        with contextlib.suppress(RequestError):
            open_limited(damaged.tobytes())


@pytest.mark.parametrize(("output_format", "expected"), [("webp", "WEBP"), ("png", "PNG"), ("jpeg", "JPEG")])
def test_picture_is_encoded_in_the_requested_format(output_format: str, expected: str) -> None:
    content = encode_picture(circle(), output_format=output_format, output_quality=90)
    assert Image.open(io.BytesIO(content)).format == expected


@pytest.mark.parametrize("output_format", ["webp", "jpeg"])
def test_lower_quality_makes_a_smaller_file(output_format: str) -> None:
    sizes = [len(encode_picture(circle(), output_format=output_format, output_quality=quality)) for quality in (10, 95)]
    assert sizes[0] < sizes[1]
