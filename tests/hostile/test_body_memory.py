# SPDX-License-Identifier: Apache-2.0
"""Bodies that would expand to many times their size in memory are rejected before they are parsed. Valid large bodies
are read with few copies."""

import base64
import contextlib
import json
import os
import tracemalloc
from collections.abc import Callable
from typing import Annotated, Any

import pytest
from pydantic import AfterValidator, BaseModel, Field
from starlette.types import Message, Receive

import main
from fastapi_triton import Base64Image
from fastapi_triton.core.errors import FastAPITritonError, InvalidRequestError, TooLargeError
from fastapi_triton.endpoints import images
from fastapi_triton.endpoints.generated.codec import GeneratedModel
from fastapi_triton.endpoints.image_files.jpeg import MAX_SCANS, count_scans, find_markers
from fastapi_triton.endpoints.request_body import large_json, long_fields, raw_body, validation
from fastapi_triton.endpoints.request_body.large_json import MAX_NAME_BYTES, MAX_TEXTS, UNCHECKED_BYTES
from fastapi_triton.triton.datatypes import BY_WIRE
from fastapi_triton.triton.model_config import ModelConfig, TensorConfig

MB = 1024 * 1024
LIMIT = 20 * MB
LIMITS = images.ImageLimits(max_pixels=50_000_000)
TEXT_LIMIT = LIMITS.max_text_bytes
EMOJI = "😀".encode()
MODEL = validation.strict(main.ScribbleRequest)


class AnyText(BaseModel):
    text: str
    note: str = ""


def filled(start: bytes, piece: bytes, end: bytes = b'"}', size: int = LIMIT) -> bytes:
    return start + piece * ((size - len(start) - len(end)) // len(piece)) + end


def texts(num: int) -> bytes:
    return b"[" + b",".join(b'"%d"' % number for number in range(num)) + b"]"


def png(size: int) -> bytes:
    """A picture of one pixel, followed by much metadata."""
    pixel = base64.b64decode(
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGP4DwABAQEAGLvRWwAAAABJRU5ErkJggg=="
    )
    return pixel + os.urandom(size - len(pixel))


PICTURE = base64.b64encode(png(LIMIT * 3 // 4 - 300))


def peak(work: Callable[[], Any]) -> int:
    """The peak of memory that Python objects take during the call, in addition to the memory before."""
    tracemalloc.start()
    try:
        with contextlib.suppress(FastAPITritonError):
            work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


# ---- rejected before parsing


@pytest.mark.parametrize(
    ("body", "code"),
    {
        "emoji": (filled(b'{"text":"', EMOJI), "too_much_text"),
        "one emoji first": (filled(b'{"text":"' + EMOJI, b"x"), "too_much_text"),
        "one emoji last": (filled(b'{"text":"', b"x", EMOJI + b'"}'), "too_much_text"),
        "an escape last": (filled(b'{"text":"', b"x", b'\\u20ac"}'), "too_much_text"),
        "escapes": (filled(b'{"text":"', b"\\u0041"), "too_much_text"),
        "an emoji behind a quotation mark": (
            filled(b'{"text":"', b"x", b'\\"' + EMOJI + b'"}'),
            "too_much_text",
        ),
        "an emoji among escaped quotation marks": (filled(b'{"text":"' + EMOJI, b'x\\"'), "too_much_text"),
        "an emoji among backslashes": (filled(b'{"text":"' + EMOJI, b"\\\\"), "too_much_text"),
        "many texts with an emoji each": (
            filled(b'{"text":["', b"x" * 60_000 + EMOJI + b'","', b'"]}'),
            "too_much_text",
        ),
        "a name": (filled(b'{"', b"k", b'":1}'), "name_too_long"),
        "a name behind others": (filled(b'{"text":"", "', b"k", b'" \n:1}'), "name_too_long"),
        "a name of escaped quotation marks": (filled(b'{"', b'\\"', b'":1}'), "name_too_long"),
        "a name that begins like numbers": (filled(b'{", 1, 2,', b"k", b'":1}'), "name_too_long"),
        "many texts": (
            b"[" + b",".join(b'"%d"' % number for number in range(MAX_TEXTS + 1)) + b"]",
            "too_many_elements",
        ),
    }.values(),
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_text_that_expands_in_memory_is_rejected(body: bytes, code: str) -> None:
    with pytest.raises(TooLargeError) as rejected:
        large_json.require_cheap(body, TEXT_LIMIT)
    assert rejected.value.code == code
    assert len(rejected.value.detail) < 300
    assert peak(lambda: large_json.require_cheap(body, TEXT_LIMIT)) < MB


@pytest.mark.parametrize(
    "body",
    [
        filled(b'{"prompt":"' + "赤い家".encode() + b'","image":"', b"A"),
        filled(b'{"image":"', b"A", b'","prompt":"' + "赤い家".encode() + b'"}'),
        filled(b'{"prompt":"\\u8d64 \\"house\\\\","image":"', b"AAA\\n"),
        filled(b'{"image":"', b"A\\/", b'","prompt":"\\u8d64"}'),
        filled(b'{"prompt":"' + EMOJI * 100_000 + b'","image":"', b"A"),
        filled(b'{"text":"', b"\\\\u0041"),
        filled(b'{"values":[', b"1.5,", b'1], "t":":"}'),
        filled(b'{"values":', b" ", b'[1], "text":":"}'),
        filled(b'{"text":"', EMOJI, size=TEXT_LIMIT),
        texts(MAX_TEXTS),
        b'{"%b":1}' % (b"k" * (MAX_NAME_BYTES - 2)) + b" " * UNCHECKED_BYTES,
    ],
)
def test_base64_numbers_and_ordinary_text_are_accepted(body: bytes) -> None:
    large_json.require_cheap(body, TEXT_LIMIT)
    json.loads(body)


@pytest.mark.parametrize("size", [UNCHECKED_BYTES, LIMIT])
def test_invalid_json_is_left_to_the_parser(size: int) -> None:
    for byte in (b"x", b'"', b"\\", b'\\"', b"{"):
        if byte != b'"' or size == UNCHECKED_BYTES:
            large_json.require_cheap(filled(b"", byte, b"", size), TEXT_LIMIT)


def test_every_json_endpoint_rejects_text_that_expands() -> None:
    body = filled(b'{"scheduler":"' + EMOJI, b"x")
    tensors = (TensorConfig("values", BY_WIRE["BYTES"], (-1,)),)
    generated = GeneratedModel(ModelConfig("texts", 0, tensors, tensors))
    for read in (lambda: validation.from_json(body, AnyText, LIMITS), lambda: generated.read(body, LIMITS)):
        with pytest.raises(TooLargeError):
            read()


# ---- text in short fields


@pytest.mark.parametrize("name", ["prompt", "seed", "scheduler", "output_format", "unknown", "pr\\u006fmpt"])
def test_error_names_the_short_field_with_the_long_text(name: str) -> None:
    body = filled(b'{"%b" : "' % name.encode(), b"x")
    with pytest.raises(TooLargeError) as rejected:
        validation.from_json(body, MODEL, LIMITS)
    assert rejected.value.code == "text_too_long"
    assert rejected.value.problems[0].pointer == "#/" + json.loads(f'"{name}"')
    assert peak(lambda: validation.from_json(body, MODEL, LIMITS)) < MB


def test_many_long_names_are_rejected() -> None:
    names = b",".join(b'"k%d%b":1' % (number, b"x" * 1900) for number in range(9990))
    with pytest.raises(TooLargeError, match="names"):
        validation.from_json(b"{" + names + b"}", MODEL, LIMITS)


def test_field_without_max_length_accepts_long_ascii_text() -> None:
    model = validation.strict(AnyText)
    request = validation.from_json(filled(b'{"note":"","text":"', b"x"), model, LIMITS)
    assert isinstance(request, AnyText)
    assert len(request.text) > LIMIT - 100


def _halved(text: str) -> str:
    return text[:10]


class Nested(BaseModel):
    inner: AnyText


class Own(BaseModel):
    text: Annotated[str, Field(max_length=10), AfterValidator(_halved)]
    bounded: str = Field("", max_length=UNCHECKED_BYTES)
    short: str = Field("", max_length=10)
    chosen: str = Field("", pattern="^(a|b)$")
    patterned: str = Field("", pattern="^(a|b)+$")
    image: Base64Image | None = Field(None, alias="picture")


class Open(BaseModel):
    anything: Any


def test_fields_that_accept_long_text() -> None:
    assert long_fields.names(MODEL) == frozenset({"image", "init_image", "mask"})
    assert long_fields.names(validation.strict(Own)) == frozenset({"text", "bounded", "patterned", "image", "picture"})
    assert long_fields.names(validation.strict(Nested)) is None
    assert long_fields.names(validation.strict(Open)) is None
    assert long_fields.names(AnyText) is None  # it accepts unknown members


# ---- read with few copies


async def receive_in_pieces(body: bytes) -> Receive:
    size = 256 * 1024
    starts = iter(range(0, len(body), size))

    async def receive() -> Message:
        start = next(starts)
        return {"type": "http.request", "body": body[start : start + size], "more_body": start + size < len(body)}

    return receive


async def test_body_is_joined_without_a_copy() -> None:
    body = os.urandom(LIMIT)
    receive = await receive_in_pieces(body)
    tracemalloc.start()
    try:
        assert await raw_body.read(receive) == body
        assert tracemalloc.get_traced_memory()[1] < 1.2 * LIMIT
    finally:
        tracemalloc.stop()


def test_picture_takes_the_memory_of_its_text_and_bytes() -> None:
    body = b'{"prompt":"x","image":"' + PICTURE + b'"}'
    assert peak(lambda: validation.from_json(body, MODEL, LIMITS)) < 1.8 * LIMIT
    request = validation.from_json(body, MODEL, LIMITS)
    assert isinstance(request, main.ScribbleRequest)
    assert request.image.encode() == PICTURE


@pytest.mark.parametrize("text", [b"A" * (LIMIT - 100), b"A" * (LIMIT - 101), b"-" * (LIMIT - 100)])
def test_error_for_invalid_picture_does_not_copy_it(text: bytes) -> None:
    body = b'{"prompt":"x","image":"' + text + b'"}'
    with pytest.raises(InvalidRequestError) as rejected:
        validation.from_json(body, MODEL, LIMITS)
    assert rejected.value.problems[0].pointer == "#/image"
    assert rejected.value.code in ("not_an_image", "invalid_base64")
    assert rejected.value.__context__ is None
    assert peak(lambda: validation.from_json(body, MODEL, LIMITS)) < 1.8 * LIMIT


def test_error_for_a_long_picture_has_the_alias() -> None:
    with pytest.raises(InvalidRequestError) as rejected:
        validation.from_json(b'{"text":"x","picture":"' + b"A" * LIMIT + b'"}', validation.strict(Own), LIMITS)
    assert rejected.value.problems[0].pointer == "#/picture"


@pytest.mark.parametrize("is_picture", [True, False])
async def test_form_is_freed_before_validation(is_picture: bool) -> None:
    data = png(LIMIT) if is_picture else bytes(LIMIT)
    start = b'--B\r\nContent-Disposition: form-data; name="%b"'
    body = start % b"prompt" + b"\r\n\r\nx\r\n" + start % b"image" + b'; filename="a"\r\n\r\n' + data + b"\r\n--B--\r\n"
    receive = await receive_in_pieces(body)
    scope = {"type": "http", "headers": [(b"content-type", b"multipart/form-data; boundary=B")]}
    tracemalloc.start()
    try:
        with contextlib.nullcontext() if is_picture else pytest.raises(InvalidRequestError):
            await validation.read(scope, receive, MODEL, limits=LIMITS)
        assert tracemalloc.get_traced_memory()[1] < 3.5 * LIMIT  # the parser's thread may hold it a moment longer
    finally:
        tracemalloc.stop()


# ---- pictures


@pytest.mark.parametrize("data", [b"\xff" * MB, b"\xda" * MB, b"\xff\xd9" * MB, os.urandom(MB)])
def test_markers_are_found_as_bytes_find_does(data: bytes) -> None:
    data += b"\xff\xda"
    found = list(find_markers(data, 0xDA, 5))
    assert len(found) == data.count(b"\xff\xda", 5)
    assert all(data[at : at + 2] == b"\xff\xda" for at in found)


def test_counting_stops_at_the_limit() -> None:
    data = b"\xff\xda" * (7 * MB)
    with pytest.raises(ValueError, match=f"more than {MAX_SCANS} scans"):
        count_scans(data, 0)
    assert peak(lambda: next(find_markers(data, 0xDA, 0))) < 4 * MB
    assert count_scans(b"\xff\xda\xff\xd9" + data, 0) == (1, 4)
