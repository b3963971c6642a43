# SPDX-License-Identifier: Apache-2.0
"""Picture files that need much memory or time: the frontend and the engine reject them before decoding."""

import ast
import base64
import io
from collections.abc import Callable
from pathlib import Path

import httpx2
import numpy as np
import pytest
from diffusion_engine import scribble as scribble_module
from diffusion_engine import strokes as strokes_module
from diffusion_engine.errors import RequestError
from diffusion_engine.pictures import examine, open_picture
from diffusion_engine.scribble import read_scribble
from diffusion_engine.strokes import block_maximum
from PIL import Image
from pydantic_core import PydanticCustomError

from fastapi_triton import Settings
from fastapi_triton.core.errors import InferenceError, TooLargeError
from fastapi_triton.endpoints import image_files, images
from fastapi_triton.endpoints.declared import stream_model as stream_model_module
from fastapi_triton.pictures import previews
from fastapi_triton.testing import FakeTriton
from fastapi_triton.triton.model_config import ModelConfig
from support.app_on_socket import listening
from support.paths import ROOT
from support.picture_bombs import (
    BOMBS,
    FALSE_END,
    HARMLESS,
    TIFF_BOMBS,
    as_file,
    drawing,
    narrow_png,
    progressive_jpeg,
    with_segments,
)
from support.scribble_app import PATH
from support.scripted_stream_model import ScriptedStreamModel, app_of, stream_model_config

MAX_PIXELS = 50_000_000
LIMITS = images.ImageLimits(max_pixels=MAX_PIXELS)
STATUS = {"image_too_large": 413}
File = Callable[[], bytes]


@pytest.fixture
def settings() -> Settings:
    return Settings(max_in_flight=2, max_waiting=0)


# ---- rejected without decoding


@pytest.mark.parametrize(("make", "code"), BOMBS.values(), ids=BOMBS)
def test_frontend_rejects_a_bomb(make: File, code: str) -> None:
    with pytest.raises((PydanticCustomError, TooLargeError)) as rejected:
        images.check(make(), LIMITS)
    assert (rejected.value.type if isinstance(rejected.value, PydanticCustomError) else rejected.value.code) == code


@pytest.mark.parametrize(("make", "code"), {**BOMBS, **TIFF_BOMBS}.values(), ids={**BOMBS, **TIFF_BOMBS})
def test_engine_rejects_a_bomb(make: File, code: str) -> None:
    with pytest.raises(RequestError) as rejected:
        examine(make(), max_pixels=MAX_PIXELS)
    assert (rejected.value.code, rejected.value.field) == (code, "image")


@pytest.mark.parametrize(
    "name", ["a PNG of 1 x 5,000,000", "a PNG of 3 x 16,000", "a JPEG of 30,000 scans", "a GIF of 1,200 frames"]
)
@pytest.mark.parametrize("is_form", [False, True])
async def test_client_gets_the_code_and_the_reason(client: httpx2.AsyncClient, name: str, is_form: bool) -> None:
    make, code = BOMBS[name]
    if is_form:
        response = await client.post(PATH, files={"prompt": (None, "x"), "image": ("a.png", make())})
    else:
        response = await client.post(PATH, json={"prompt": "x", "image": base64.b64encode(make()).decode()})
    assert response.status_code == STATUS.get(code, 422)
    assert response.json()["errors"][0]["pointer"] == "#/image"
    assert response.json()["code"] == code
    assert any(word in response.json()["detail"] for word in ("pixels", "scans", "frames"))


@pytest.mark.parametrize("name", ["a PNG of 1 x 5,000,000", "a JPEG of 30,000 scans"])
@pytest.mark.parametrize("path", ["/v1/images/edits", "/sdapi/v1/txt2img"])
async def test_openai_and_a1111_apis_reject_a_bomb(
    scribble_config: ModelConfig, settings: Settings, name: str, path: str
) -> None:
    make, code = BOMBS[name]
    triton = FakeTriton()
    triton.add(scribble_config)
    triton.add(stream_model_config(scribble_config), respond_stream=ScriptedStreamModel())
    async with listening(app_of(triton, settings)) as client:
        response = await post(client, path, make())
    assert response.status_code in (400, 413, 422), response.text
    assert code in response.text


async def post(client: httpx2.AsyncClient, path: str, content: bytes) -> httpx2.Response:
    if path.startswith("/v1"):
        return await client.post(path, data={"prompt": "x"}, files={"image": ("a.png", content)})
    unit = {"image": base64.b64encode(content).decode()}
    return await client.post(path, json={"prompt": "x", "alwayson_scripts": {"controlnet": {"args": [unit]}}})


def test_limit_of_a_side_can_be_raised() -> None:
    picture = narrow_png(17_000, 200)
    with pytest.raises(TooLargeError, match="the limit for a side is 16,384"):
        images.check(picture, LIMITS)
    images.check(picture, images.ImageLimits(MAX_PIXELS, max_side=17_000))


def test_scans_after_a_false_end_marker_are_not_decoded() -> None:
    bomb = progressive_jpeg(3_472, 2_416, 30_000, between=FALSE_END)
    structure = examine(bomb, max_pixels=MAX_PIXELS)
    assert structure.num_passes == 1
    assert len(structure.essential(bomb)) < len(bomb) / 10


def test_bytes_that_look_like_scans_do_not_hide_real_scans() -> None:
    bomb = progressive_jpeg(3_472, 2_416, 200)
    with pytest.raises(RequestError, match="has more than 100 scans"):
        examine(bomb + b"\xff\xda" * 1_000, max_pixels=MAX_PIXELS)


# ---- odd but valid


@pytest.mark.parametrize("make", HARMLESS.values(), ids=HARMLESS)
def test_metadata_and_further_frames_are_skipped(make: File) -> None:
    content = make()
    images.check(content, LIMITS)
    scribble = read_scribble(content, max_pixels=MAX_PIXELS)
    assert scribble.size in ((64, 64), (16, 16), (640, 480), (200, 200))


def test_video_appended_to_a_photo_does_not_count_as_scans() -> None:
    """A few megabytes of video contain the marker's two bytes about this often by chance."""
    photo = as_file(Image.new("L", (8_160, 6_120), 255), "JPEG") + b"\xff\xda\0\1" * 30
    images.check(photo, LIMITS)
    structure = examine(photo, max_pixels=MAX_PIXELS)
    assert open_picture(structure.essential(photo), structure).size == (8_160, 6_120)


def test_decoder_input_has_no_metadata() -> None:
    for name in ("a PNG with 3 MB of text", "a PNG with an ICC profile of 70 MB", "a JPEG with 10,000 EXIF segments"):
        content = HARMLESS[name]()
        assert len(examine(content, max_pixels=MAX_PIXELS).essential(content)) < 2_000


MODES = {
    "PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
    "JPEG": ("L", "RGB", "CMYK"),
    "WEBP": ("RGB", "RGBA"),
    "GIF": ("1", "L", "P", "RGB"),
    "BMP": ("1", "L", "P", "RGB", "RGBA"),
    "TIFF": ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "F"),
}


@pytest.mark.parametrize(("file_format", "mode"), [(name, mode) for name, modes in MODES.items() for mode in modes])
def test_pixels_equal_those_of_the_whole_file(file_format: str, mode: str) -> None:
    picture = Image.new("I;16", (60, 40), 40_000) if mode == "I;16" else drawing((60, 40)).convert(mode)
    content = as_file(picture, file_format)
    structure = examine(content, max_pixels=MAX_PIXELS)
    alone = open_picture(structure.essential(content), structure)
    with Image.open(io.BytesIO(content)) as whole:
        assert alone.mode == whole.mode
        assert alone.tobytes() == whole.tobytes()


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP"])
def test_picture_is_turned_upright(file_format: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    scribble = read_scribble(as_file(drawing((80, 40)), file_format, exif=exif), max_pixels=MAX_PIXELS)
    assert (scribble.size, scribble.rotated) == ((40, 80), True)


@pytest.mark.parametrize(
    "exif",
    [
        b"",
        b"II*\0",
        b"II*\0\xff\xff\xff\xff",
        b"MM\0*\0\0\0\x08\xff\xff",
        b"II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\xff\xff\0\0",
        b"II*\0\x08\0\0\0\1\0\x12\1\2\0\1\0\0\0\6\0\0\0",
    ],
)
def test_broken_exif_data_turns_nothing(exif: bytes) -> None:
    segment = b"\xff\xe1" + (len(exif) + 8).to_bytes(2) + b"Exif\0\0" + exif
    assert read_scribble(with_segments(as_file(drawing(), "JPEG"), segment), max_pixels=MAX_PIXELS).rotated is False


# ---- frontend and engine together


def test_frontend_and_engine_have_the_same_modules() -> None:
    frontend = Path(image_files.__file__).parent
    engine = ROOT / "models" / "sdxl_scribble_controlnet_stream" / "1" / "diffusion_engine" / "image_files"
    assert {path.name for path in engine.glob("*.py")} - {path.name for path in frontend.glob("*.py")} == {"tiff.py"}
    for path in frontend.glob("*.py"):
        ours = path.read_text().replace("fastapi_triton.endpoints.", "diffusion_engine.")
        assert ast.dump(ast.parse(ours)) == ast.dump(ast.parse((engine / path.name).read_text())), path.name


def test_narrow_picture_is_not_padded_to_a_square() -> None:
    shrunk = block_maximum(np.eye(2, 20_000, dtype=np.uint8), 5_000)
    assert shrunk.shape == (1, 4)
    assert shrunk.tolist() == [[1, 0, 0, 0]]


def test_tiny_picture_is_not_thinned_at_full_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every layer is a pass over all pixels: 250 layers at 1024 x 1024 took 17 s."""
    passes: list[int] = []

    def counted(strokes: strokes_module.Mask, num_layers: int) -> strokes_module.Mask:
        passes.append(max(0, num_layers) * strokes.size)
        return scribble_thin(strokes, num_layers)

    scribble_thin = scribble_module.thin
    monkeypatch.setattr(scribble_module, "thin", counted)
    strokes = np.zeros((2, 2), np.bool_)
    strokes[1, 0] = True
    scribble_module.resize_strokes(strokes, (1024, 1024))
    assert sum(passes) < 10_000_000


@pytest.mark.parametrize("name", ["photo-of-paper.jpg", "yellow-pen.jpg", "grey-16-bit.png", "thin-lines-4000px.png"])
def test_picture_processed_in_bands_gives_the_same_result(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Processing a few rows at a time gives the same result as all rows at once."""
    content = (ROOT / "tests" / "data" / "scribbles" / name).read_bytes()
    found = []
    for band_pixels in (1, 50_000, 2**40):
        monkeypatch.setattr(strokes_module, "BAND_PIXELS", band_pixels)
        found.append(read_scribble(content, max_pixels=MAX_PIXELS))
    assert all(np.array_equal(each.strokes, found[0].strokes) for each in found)
    assert all(each.describe() == found[0].describe() for each in found)


async def test_model_that_cannot_decode_pictures_is_unready(
    scribble_config: ModelConfig, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_model_module, "_AVAILABILITY_S", 0.0)
    triton, stream_model = FakeTriton(), ScriptedStreamModel()
    triton.add(scribble_config)
    triton.add(stream_model_config(scribble_config), respond_stream=stream_model)
    async with listening(app_of(triton, settings)) as client:
        assert (await client.get("/health/ready")).status_code == 200
        stream_model.further_description = {"unavailable": "The engine cannot start a process that decodes pictures."}
        response = await client.get("/health/ready")
        assert response.status_code == 503
        assert "decodes pictures" in response.json()["endpoints"][0]["detail"]
        stream_model.further_description = {}
        assert (await client.get("/health/ready")).status_code == 200


async def test_preview_that_is_a_bomb_is_rejected() -> None:
    for name in ("a JPEG of 30,000 scans", "a PNG of 1 x 5,000,000", "a GIF of 1,200 frames"):
        with pytest.raises(InferenceError):
            await previews.as_picture(base64.b64encode(BOMBS[name][0]()).decode(), output_format="png")


async def test_damaged_preview_is_a_model_error() -> None:
    content = as_file(Image.linear_gradient("L"), "PNG")
    at = content.index(b"IDAT") + 6
    damaged = content[:at] + bytes(20) + content[at + 20 :]
    with pytest.raises(InferenceError, match="not a picture"):
        await previews.as_picture(base64.b64encode(damaged).decode(), output_format="webp")
