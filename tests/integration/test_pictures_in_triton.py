# SPDX-License-Identifier: Apache-2.0
"""Pictures for image tensors on a real Triton: files and base64 in, arrays and PNG out."""

import base64
import io

import httpx2
import numpy as np
import pytest
from PIL import Image

from support.picture_bombs import as_file
from support.serving import Server

pytestmark = pytest.mark.integration

COLOURS = Image.fromarray(np.random.default_rng(7).integers(0, 256, (40, 30, 3), np.uint8))
PHOTO = as_file(COLOURS, "JPEG")
DECODED = Image.open(io.BytesIO(PHOTO)).convert("RGB")
STRETCHED = np.asarray(DECODED.resize((6, 8), Image.Resampling.BILINEAR))


def post(server: Server, query: str = "", **request: object) -> httpx2.Response:
    response = httpx2.post(f"{server.url}/models/pictures/infer{query}", timeout=60, **request)  # type: ignore[arg-type]
    assert response.status_code == 200, response.text
    return response


def png(text: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text))))


def test_triton_gets_the_pixels_of_a_form(odd_server: Server) -> None:
    form = {"floats": PHOTO, "half": PHOTO, "grey": PHOTO}
    row = post(odd_server, files=form).json()
    wanted = (STRETCHED / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(row["floats"], wanted.transpose(2, 0, 1), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(row["half"], np.asarray(DECODED).transpose(2, 0, 1)[None] / 255, atol=1e-3)
    np.testing.assert_array_equal(np.array(row["grey"])[..., 0], np.asarray(DECODED.convert("L")))
    assert {each["name"] for each in odd_server.get("/models/pictures").json()["inputs"] if "image" in each} == set(
        form
    )


def test_the_classes_of_a_photo(odd_server: Server) -> None:
    form = {"floats": PHOTO, "half": PHOTO, "grey": PHOTO}
    row = post(odd_server, "?classes=1&normalize=none", files=form).json()
    assert row["floats"][0]["score"] == STRETCHED.max()
    assert row["floats"][0]["index"] == STRETCHED.transpose(2, 0, 1).argmax()


def test_a_batch_of_pictures_returns_png(odd_server: Server) -> None:
    row = {"floats": base64.b64encode(PHOTO).decode()}
    for rows in (
        post(odd_server, "?arrays=png", json=[row, row]).json(),
        post(odd_server, "?arrays=png&normalize=inception", files=[("floats", PHOTO)] * 2).json(),
    ):
        assert len(rows) == 2
        for each in rows:
            np.testing.assert_array_equal(png(each["floats"]), STRETCHED)
