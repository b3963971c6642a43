# SPDX-License-Identifier: Apache-2.0
"""The messages between the engine and its picture decoders over a socket: JSON and bytes, never pickles.

Decoders read untrusted files with libraries written in C. Even if a file takes over a decoder, its responses are only
data.
"""

import json
import struct
from dataclasses import asdict
from typing import Any, BinaryIO, TypeVar

from diffusion_engine.decoding import Decoding
from diffusion_engine.errors import RequestError
from diffusion_engine.fitted_picture import MaskDecoding, PictureDecoding
from diffusion_engine.image_files.structure import Structure
from diffusion_engine.scribble import ScribbleDecoding

T = TypeVar("T")

# The lengths of the two parts: JSON, then bytes.
HEAD = struct.Struct(">II")
READY: dict[str, Any] = {"ready": True}
DECODINGS: dict[str, Any] = {each.field: each for each in (ScribbleDecoding, PictureDecoding, MaskDecoding)}


def pack(values: dict[str, Any], content: bytes = b"") -> bytes:
    text = json.dumps(values).encode()
    return HEAD.pack(len(text), len(content)) + text + content


def unpack(message: bytes | bytearray) -> tuple[dict[str, Any], bytes] | None:
    """The parts of a message; None while it is incomplete."""
    if len(message) < HEAD.size:
        return None
    text_size, content_size = HEAD.unpack_from(message)
    text_end = HEAD.size + text_size
    end = text_end + content_size
    if len(message) < end:
        return None
    return json.loads(message[HEAD.size : text_end]), bytes(message[text_end:end])


def read(stream: BinaryIO) -> tuple[dict[str, Any], bytes] | None:
    """The next message; None at the end of the stream."""
    head = stream.read(HEAD.size)
    if len(head) < HEAD.size:
        return None
    text_size, content_size = HEAD.unpack(head)
    text, content = stream.read(text_size), stream.read(content_size)
    return (json.loads(text), content) if len(content) == content_size else None


def of_request(decoding: Decoding[Any], content: bytes, structure: Structure) -> bytes:
    """A request to decode a picture file. `structure` is that of the whole file."""
    values = {
        "field": decoding.field,
        "options": asdict(decoding),  # type: ignore[call-overload]
        "structure": asdict(structure) | {"trailer": "", "spans": ()},
    }
    return pack(values, content)


def request_of(values: dict[str, Any], content: bytes) -> tuple[Decoding[Any], bytes, Structure]:
    options = {name: tuple(value) if isinstance(value, list) else value for name, value in values["options"].items()}
    return DECODINGS[values["field"]](**options), content, Structure(**values["structure"])


def of_result(decoding: Decoding[T], result: T) -> bytes:
    facts, content = decoding.pack(result)
    return pack({"facts": facts}, content)


def of_error(error: RequestError) -> bytes:
    return pack({"error": {"code": error.code, "detail": error.detail, "field": error.field}})


def result_of(decoding: Decoding[T], values: dict[str, Any], content: bytes) -> T:
    """The result from a response. Raises `RequestError` if the response is an error."""
    if error := values.get("error"):
        raise RequestError(error["code"], error["detail"], field=error["field"])
    return decoding.unpack(values["facts"], content)
