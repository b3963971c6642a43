# SPDX-License-Identifier: Apache-2.0
"""Which endpoints can make pictures from scribbles; the nearest size; the conversion of previews."""

import base64
import io
from dataclasses import replace

import pytest
from PIL import Image
from pydantic import BaseModel

from fastapi_triton import Base64Image, Settings, TritonFrontend
from fastapi_triton.core.errors import InferenceError
from fastapi_triton.pictures import previews
from fastapi_triton.pictures.text_to_image import Capabilities, scribble_field
from fastapi_triton.testing import FakeTriton
from support.scribble_app import base64_picture

SDXL = Capabilities("sdxl", sizes=((1024, 1024), (1216, 832), (832, 1216), (1344, 768), (1536, 640)))
DEMO = Capabilities(
    "demo", sizes=((96, 96), (128, 128), (192, 128), (128, 192), (256, 256)), defaults={"width": 128, "height": 128}
)
UPSCALING = replace(DEMO, max_upscale=8.0)


class Prompt(BaseModel):
    prompt: str


class Sketch(Prompt):
    image: Base64Image


class SketchAndMask(Sketch):
    mask: Base64Image | None = None


class SketchAndStyle(Sketch):
    style: Base64Image


class Outline(Prompt):
    outline: Base64Image


class Pictures(Prompt):
    one: Base64Image | None = None
    other: Base64Image | None = None


class NoPrompt(BaseModel):
    image: Base64Image


@pytest.mark.parametrize(
    ("request_model", "field"),
    [
        (Sketch, "image"),
        (SketchAndMask, "image"),
        (SketchAndStyle, None),  # the second picture is required
        (Outline, "outline"),
        (Pictures, None),
        (Prompt, None),
        (NoPrompt, None),
    ],
)
def test_an_endpoint_can_draw_if_it_needs_only_a_prompt_and_a_scribble(
    request_model: type[BaseModel], field: str | None
) -> None:
    app = TritonFrontend(triton=FakeTriton(), settings=Settings())
    for response, expected in ((NoPrompt, field), (Prompt, None)):
        endpoint = app.infer(f"/{response.__name__}", model="m", request=request_model, response=response)
        assert scribble_field(endpoint) == expected


@pytest.mark.parametrize(
    ("capabilities", "wanted", "snapped"),
    [
        (SDXL, (1024, 1024), (1024, 1024)),
        (SDXL, (512, 512), (1024, 1024)),
        (SDXL, (1536, 1024), (1216, 832)),
        (SDXL, (1024, 1536), (832, 1216)),
        (SDXL, (1792, 1024), (1344, 768)),
        (DEMO, (1024, 1024), (256, 256)),
        (DEMO, (100, 100), (96, 96)),
        (DEMO, (1536, 1024), (192, 128)),  # the shape has more weight than the area
        (UPSCALING, (1024, 1024), (1024, 1024)),
        (UPSCALING, (500, 512), (500, 512)),
        (UPSCALING, (1100, 1100), (1024, 1024)),
        (UPSCALING, (1536, 1024), (1536, 1024)),  # from 192x128
        (UPSCALING, (1600, 700), (1296, 864)),  # of a shape that it does not make
        (UPSCALING, (100, 100), (96, 96)),
        (Capabilities("no description"), (7, 9), (7, 9)),
    ],
)
def test_an_unsupported_size_becomes_the_nearest_supported_size(
    capabilities: Capabilities, wanted: tuple[int, int], snapped: tuple[int, int]
) -> None:
    assert capabilities.nearest_size(wanted) == snapped


@pytest.mark.parametrize(
    ("preview", "size"), [((32, 32), (128, 128)), ((48, 32), (192, 128)), ((32, 48), (128, 192)), ((9, 7), (9, 7))]
)
def test_the_size_of_a_picture_follows_from_its_preview(preview: tuple[int, int], size: tuple[int, int]) -> None:
    assert DEMO.size_shaped_like(preview) == size


@pytest.mark.parametrize("output_format", ["png", "webp", "jpeg"])
async def test_a_preview_is_converted_to_the_format_and_size(output_format: str) -> None:
    text = await previews.as_picture(base64_picture("WEBP", (4, 3)), output_format=output_format, size=(40, 30))
    image = Image.open(io.BytesIO(base64.b64decode(text)))
    image.load()
    assert (image.format, image.size) == (output_format.upper(), (40, 30))


async def test_a_preview_that_is_not_a_picture_is_an_inference_error() -> None:
    with pytest.raises(InferenceError, match="not a picture"):
        await previews.as_picture("aGVsbG8=", output_format="png")
    with pytest.raises(InferenceError, match="not a picture"):
        await previews.as_whole_picture("!", {}, DEMO, output_format="png")
