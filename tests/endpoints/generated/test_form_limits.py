# SPDX-License-Identifier: Apache-2.0
"""The memory of a form is limited before its JSON is parsed and before a field is copied; files that are explained."""

from typing import Any

import httpx2
import pytest

from fastapi_triton.core.errors import InvalidRequestError, TooLargeError
from fastapi_triton.endpoints.generated import forms
from fastapi_triton.endpoints.images import ImageLimits
from fastapi_triton.endpoints.request_body import json_text, large_json
from support.echo_models import model, tensor

UPSCALER = model("upscaler", tensor("image", "UINT8", (-1, -1, 3)), tensor("boxes", dims=(-1,)), batch=4)
LIMITS = ImageLimits(1000, max_elements=1000)


def as_json(boxes: str, num_files: int = 1) -> bytes:
    files: Any = [("image", ("a.png", b"x"))] * num_files
    request = httpx2.Request("POST", "http://test", files=files, data={"boxes": boxes})
    return forms.as_json(request.read(), request.headers["content-type"], UPSCALER, LIMITS)


@pytest.mark.parametrize("boxes", ["[" + "1," * 2000 + "1]", '["a","b","c"]'])
def test_json_is_limited_before_it_is_parsed(boxes: str, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[bytes] = []
    monkeypatch.setattr(json_text, "parse", parsed.append)
    monkeypatch.setattr(large_json, "UNCHECKED_BYTES", 5)
    monkeypatch.setattr(large_json, "MAX_TEXTS", 2)
    with pytest.raises(TooLargeError):
        as_json(boxes)
    assert parsed == []


def test_a_long_field_is_not_copied_to_many_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forms, "_MAX_COPIED_BYTES", 7)
    row = b'{"boxes":[1],"image":"eA=="}'
    assert as_json("[1]", num_files=2) == b"[" + row + b"," + row + b"]"
    with pytest.raises(TooLargeError, match="`boxes` are too long to be copied to 2 rows"):
        as_json("[12]", num_files=2)


def test_a_file_without_a_filename_is_explained() -> None:
    part = b'--x\r\nContent-Disposition: form-data; name="image"\r\nContent-Type: image/png\r\n\r\n\x89PNG\r\n--x--\r\n'
    with pytest.raises(InvalidRequestError, match="A file needs a filename in its part"):
        forms.as_json(part, "multipart/form-data; boundary=x", UPSCALER, LIMITS)


def test_a_picture_for_an_array_is_explained() -> None:
    request = httpx2.Request("POST", "http://test", files={"boxes": ("a.png", b"\x89PNG")})
    with pytest.raises(InvalidRequestError, match=r"`boxes` is a file, but the model takes FP32 \[-1\] from a `.npy`"):
        forms.as_json(request.read(), request.headers["content-type"], UPSCALER, LIMITS)
