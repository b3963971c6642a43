# SPDX-License-Identifier: Apache-2.0
"""Base64 text, and checks of pictures by their structure alone."""

import base64
import io

import pytest
from PIL import Image
from pydantic_core import PydanticCustomError

from fastapi_triton.core.errors import TooLargeError
from fastapi_triton.endpoints import images
from support.scribble_app import picture

LIMITS = images.ImageLimits(max_pixels=1_000_000)


@pytest.mark.parametrize("text", ["AAEC", "AA EC", "AA\r\nEC\n", "data:image/png;base64,AAEC", "data:;base64,AA\nEC"])
def test_base64_with_line_breaks_or_a_data_url_prefix_is_decoded(text: str) -> None:
    assert images.decode(text) == b"\x00\x01\x02"


@pytest.mark.parametrize("text", ["AAE", "AAEC!", "AA-_", "AAEC=", "=", "data:image/png,AAEC", "data:AAEC", "äöüß"])
def test_text_that_is_not_base64_is_rejected(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        images.decode(text)


@pytest.mark.parametrize(
    ("image_format", "media"), [("PNG", "png"), ("JPEG", "jpeg"), ("WEBP", "webp"), ("GIF", "gif")]
)
def test_the_media_type_is_read_from_the_first_bytes(image_format: str, media: str) -> None:
    data = picture(image_format)
    assert images.media_type(data) == f"image/{media}"
    assert images.media_type(base64.b64encode(data)) is None


@pytest.mark.parametrize("image_format", images.READABLE_FORMATS)
def test_every_supported_format_is_accepted(image_format: str) -> None:
    images.check(picture(image_format), LIMITS)


def test_a_file_that_is_cut_off_is_rejected_without_decoding_it() -> None:
    data = picture(size=(900, 900))
    with pytest.raises(PydanticCustomError, match="cut off"):
        images.check(data[:-20], LIMITS)


def test_pixels_are_not_decoded() -> None:
    data = picture(size=(900, 900))
    at = data.index(b"IDAT") + 4
    images.check(data[:at] + bytes(100) + data[at + 100 :], LIMITS)  # the model decodes it and finds the damage


def test_a_picture_at_the_limit_is_accepted_and_one_with_another_row_is_not() -> None:
    images.check(picture(size=(1000, 1000)), LIMITS)
    with pytest.raises(TooLargeError, match="1000 x 1001"):
        images.check(picture(size=(1000, 1001)), LIMITS)


@pytest.mark.parametrize("data", [b"hello world", b"\x89PNG\r\n\x1a\n", b"RIFF\x00\x00\x00\x00WEBP", b"\xff\xd8\xff"])
def test_bytes_that_are_not_a_picture_are_rejected(data: bytes) -> None:
    with pytest.raises(PydanticCustomError) as rejected:
        images.check(data, LIMITS)
    assert rejected.value.type in ("not_an_image", "truncated_image")


def test_formats_that_the_model_does_not_read_are_rejected() -> None:
    file = io.BytesIO()
    Image.new("RGB", (4, 4)).save(file, "TIFF")
    with pytest.raises(PydanticCustomError, match="PNG, JPEG, WebP, GIF or BMP"):
        images.check(file.getvalue(), LIMITS)
