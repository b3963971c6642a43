# SPDX-License-Identifier: Apache-2.0
"""Limits on requests: JSON's depth and values, a form's parts, compressed bodies, costly pictures.

Each of these would block the event loop for seconds, or fill the memory. They are rejected before they are parsed.
"""

import base64
import gzip
import io
import json
import struct
import zlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx2
import pytest
from PIL import Image
from pydantic import BaseModel, Field
from pydantic_core import PydanticCustomError

import main
from fastapi_triton import Settings, TritonFrontend
from fastapi_triton.core.errors import InferenceError, TooLargeError
from fastapi_triton.endpoints import images
from fastapi_triton.endpoints.request_body import validation
from fastapi_triton.pictures import previews
from fastapi_triton.testing import FakeTriton
from fastapi_triton.triton.model_config import ModelConfig
from support.scribble_app import PATH, picture
from support.scripted_stream_model import ScriptedStreamModel, app_of, stream_model_config

MANY = 200_000
JSON = {"Content-Type": "application/json"}


@pytest.fixture
def settings() -> Settings:
    return Settings(max_body_bytes=2_000_000, generate=True)


@pytest.fixture
def triton(scribble_config: ModelConfig, stream_model: ScriptedStreamModel) -> FakeTriton:
    fake = FakeTriton()
    fake.add(scribble_config)
    fake.add(stream_model_config(scribble_config), respond_stream=stream_model)
    return fake


@pytest.fixture
def app(triton: FakeTriton, settings: Settings) -> TritonFrontend:
    return app_of(triton, settings)


@pytest.fixture
async def client(app: TritonFrontend) -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(app=app)
    async with (
        app.router.lifespan_context(app),
        httpx2.AsyncClient(transport=transport, base_url="http://test") as http,
    ):
        await known_models(app)
        yield http


async def known_models(app: TritonFrontend) -> None:
    await app.registry.poll()


PATHS = [
    PATH,
    "/v1/images/generations",
    "/sdapi/v1/txt2img",
    "/sdapi/v1/options",
    "/models/sdxl_scribble_controlnet/infer",
]
DEEP = [b"[" * 100_000, b'{"prompt":' * 100_000, b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}"]
WIDE = [
    b'{"x":[' + b"[]," * MANY + b"1]}",
    b'{"prompt":[' + b"1," * MANY + b"1]}",
    b"{" + b",".join(b'"%d":1' % number for number in range(MANY // 2)) + b"}",
    b'{"x":[' + (b"[" * 99 + b"]" * 99 + b",") * (MANY // 50) + b"1]}",
]


@pytest.mark.parametrize("path", PATHS)
async def test_very_deep_json_is_rejected(client: httpx2.AsyncClient, path: str) -> None:
    for body in DEEP:
        response = await client.post(path, content=body, headers=JSON)
        assert response.status_code in (400, 413), response.text
        assert "json" in response.text.lower()


@pytest.mark.parametrize("path", PATHS[:4])
async def test_json_of_very_many_values_is_rejected_by_endpoints_without_arrays(
    client: httpx2.AsyncClient, path: str
) -> None:
    for body in WIDE:
        response = await client.post(path, content=body, headers=JSON)
        assert (response.status_code, "too_many_elements" in response.text) == (413, True), response.text


async def test_a_setting_limits_the_values_for_generated_endpoints(triton: FakeTriton, settings: Settings) -> None:
    app = app_of(triton, settings.model_copy(update={"max_json_elements": 1000}))
    async with (
        app.router.lifespan_context(app),
        httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://test") as client,
    ):
        await known_models(app)
        path = "/models/sdxl_scribble_controlnet/infer"
        response = await client.post(path, content=b"[" + b"1," * 2000 + b"1]", headers=JSON)
        assert (response.status_code, response.json()["code"]) == (413, "too_many_elements")
        assert "1,000" in response.json()["detail"]
        response = await client.post(path, content=b"[" + b"1," * 800 + b"1]", headers=JSON)
        assert response.status_code == 422


class Numbers(BaseModel):
    values: list[float]


class FewNumbers(BaseModel):
    values: list[float] = Field(max_length=10)


class ListsInAList(BaseModel):
    values: list[Numbers] = Field(max_length=10)


class Tags(BaseModel):
    tags: dict[str, str]


class Nested(BaseModel):
    inner: Numbers | None = None


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (main.ScribbleRequest, False),
        (FewNumbers, False),
        (Numbers, True),
        (ListsInAList, True),
        (Tags, True),
        (Nested, True),
    ],
)
def test_only_a_model_with_lists_may_hold_many_values(model: type[BaseModel], expected: bool) -> None:
    assert validation._holds_lists(validation.strict(model)) is expected


def test_a_model_with_lists_takes_many_values() -> None:
    body = json.dumps({"values": list(range(50_000))}).encode()
    read = validation.from_json(body, Numbers, images.ImageLimits(1), strict=False)
    assert isinstance(read, Numbers)
    assert len(read.values) == 50_000
    with pytest.raises(TooLargeError):
        validation.from_json(body, Numbers, images.ImageLimits(1, max_elements=49_999), strict=False)


@pytest.mark.parametrize("mark", [b",", b"[", b"{"])
@pytest.mark.parametrize("between", [0, 1, 1000])
@pytest.mark.parametrize("most", [1, 150, validation._FEW_MARKS, 1000])
def test_the_values_of_a_body_are_counted_at_any_position(mark: bytes, between: int, most: int) -> None:
    piece = mark + between * b"x"
    # Longer than the limit, although the values are not too many.
    validation.require_few_elements(piece * most + 2000 * b"x", most)
    with pytest.raises(TooLargeError):
        validation.require_few_elements(2000 * b"x" + piece * (most + 1), most)


def test_a_long_text_counts_as_one_value() -> None:
    validation.require_few_elements(b'{"image": "' + b"A" * 5_000_000 + b'"}', 10)


async def test_a_compressed_body_is_rejected_with_the_reason(
    client: httpx2.AsyncClient, body: Callable[..., dict[str, Any]]
) -> None:
    packed = gzip.compress(json.dumps(body()).encode())
    for encoding in ("gzip", "br", "identity, deflate"):
        response = await client.post(PATH, content=packed, headers={**JSON, "Content-Encoding": encoding})
        assert (response.status_code, response.json()["code"]) == (415, "compressed_body")
        assert encoding in response.json()["detail"]
    plain = await client.post(PATH, json=body(), headers={"Content-Encoding": "identity"})
    assert plain.status_code == 200


def form(*parts: bytes) -> dict[str, Any]:
    content = b"".join(b"--x\r\n" + part + b"\r\n" for part in parts) + b"--x--\r\n"
    return {"content": content, "headers": {"Content-Type": "multipart/form-data; boundary=x"}}


PART = b'Content-Disposition: form-data; name="%s"\r\n'


@pytest.mark.parametrize(
    "parts",
    [
        [PART % b"a%d" % number + b"\r\n1" for number in range(5000)],
        [PART % b"prompt" + b"X-A: " + b"a" * 100_000 + b"\r\n\r\nhello"],
        [PART % b"prompt" + b"X-A: a\r\n" * 1000 + b"\r\nhello"],
        [PART % (b"p" * 100_000) + b"\r\nhello"],
    ],
    ids=["many parts", "a long header", "many headers", "a long name"],
)
async def test_a_form_with_too_many_or_too_long_parts_is_rejected(
    client: httpx2.AsyncClient, parts: list[bytes]
) -> None:
    response = await client.post(PATH, **form(*parts))
    assert (response.status_code, response.json()["code"]) == (400, "invalid_form")


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def jpeg(*segments: bytes) -> bytes:
    plain = picture("JPEG")
    return plain[:2] + b"".join(segments) + plain[2:]


def gif(*blocks: bytes) -> bytes:
    plain = picture("GIF")
    first = plain.index(b",", 13)
    return plain[:first] + b"".join(blocks) + plain[first:]


def png_that_begins_with(chunk: bytes) -> bytes:
    plain = picture("PNG")
    return plain[:8] + chunk + plain[8:]


BOMB = zlib.compress(b"A" * 100_000_000, 9)
# Files that Pillow would read byte by byte, or decompress, before it reached the picture's size.
ENDLESS = {
    "a JPEG of padding": jpeg(b"\xff" * 2_000_000),
    "a JPEG of comments": jpeg(b"\xff\xfe\0\x02" * 500_000),
    "a GIF of comments": gif(b"!\xfe" + b"\x01a" * 1_000_000 + b"\0"),
    "a GIF of extensions": gif(b"!\xf9\x04\0\0\0\0\0" * 200_000),
    "a PNG of chunks": picture("PNG")[:33] + png_chunk(b"prVt", b"") * 100_000 + picture("PNG")[33:],
}


@pytest.mark.parametrize("data", ENDLESS.values(), ids=ENDLESS)
def test_a_header_without_an_end_is_rejected(data: bytes) -> None:
    with pytest.raises(PydanticCustomError, match=r"has more than [0-9,]+ (segments|blocks|chunks)") as rejected:
        images.check(data, images.ImageLimits(max_pixels=1_000_000))
    assert rejected.value.type == "image_too_complex"


@pytest.mark.parametrize("kind", [b"zTXt", b"iCCP"])
def test_a_png_that_does_not_begin_with_its_size_is_damaged(kind: bytes) -> None:
    with pytest.raises(PydanticCustomError, match="damaged"):
        images.check(png_that_begins_with(png_chunk(kind, b"k\0\0" + BOMB)), images.ImageLimits(max_pixels=1_000_000))


def riff(*chunks: tuple[bytes, bytes]) -> bytes:
    content = b"WEBP" + b"".join(
        kind + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2) for kind, data in chunks
    )
    return b"RIFF" + struct.pack("<I", len(content)) + content


def animated_webp(side: int) -> bytes:
    plain = picture("WEBP")
    frame = (15).to_bytes(3, "little") + (11).to_bytes(3, "little") + bytes(4) + plain[12:]
    size = (side - 1).to_bytes(3, "little") * 2
    return riff((b"VP8X", b"\2\0\0\0" + size), (b"ANIM", bytes(6)), (b"ANMF", bytes(6) + frame))


def resized(image_format: str, offset: int, pattern: str, side: int) -> bytes:
    data = bytearray(picture(image_format))
    struct.pack_into(pattern, data, offset, side, side)
    return bytes(data)


VAST = {
    "GIF's screen": resized("GIF", 6, "<HH", 60_000),
    "GIF's frame beyond its screen": resized("GIF", picture("GIF").index(b",", 13) + 5, "<HH", 60_000),
    "JPEG": resized("JPEG", picture("JPEG").index(b"\xff\xc0") + 5, ">HH", 60_000),
    "BMP": resized("BMP", 18, "<ii", 2**31 - 1),
    "animated WebP": animated_webp(16_000),
}


@pytest.mark.parametrize("data", VAST.values(), ids=VAST)
def test_a_picture_with_a_vast_size_is_rejected_by_its_header(data: bytes) -> None:
    with pytest.raises(TooLargeError):
        images.check(data, images.ImageLimits(max_pixels=50_000_000))


def test_only_the_first_of_many_frames_counts() -> None:
    file = io.BytesIO()
    frames = [Image.new("P", (16, 16), number % 250) for number in range(300)]
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:], disposal=2)
    images.check(file.getvalue(), images.ImageLimits(max_pixels=300))


def test_a_jpeg_with_a_large_profile_is_accepted() -> None:
    profile = b"".join(
        b"\xff\xe2\xff\xff" + b"ICC_PROFILE\0" + bytes([number, 255]) + b"x" * (65_533 - 14) for number in range(1, 256)
    )
    images.check(jpeg(profile), images.ImageLimits(max_pixels=1000))


async def test_a_vast_preview_is_not_decoded() -> None:
    file = io.BytesIO()
    Image.new("1", (5000, 5000)).save(file, "PNG")
    preview = base64.b64encode(file.getvalue()).decode()
    with pytest.raises(InferenceError, match=r"more than [0-9,]+ pixels"):
        await previews.as_picture(preview, output_format="png")
    assert images.size(images.decode(preview)) == (5000, 5000)
