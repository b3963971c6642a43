# SPDX-License-Identifier: Apache-2.0
"""The messages between the engine and its picture decoders over a socket: JSON and bytes, never pickles.

Decoders read untrusted files with libraries written in C. Even if a file takes over a decoder, its responses are only
data.
"""

import json
import struct
from dataclasses import asdict
from typing import Any, BinaryIO

import numpy as np

from diffusion_engine.errors import RequestError
from diffusion_engine.image_files.structure import Structure
from diffusion_engine.scribble import Scribble

# The lengths of the two parts: JSON, then bytes.
HEAD = struct.Struct(">II")
READY: dict[str, Any] = {"ready": True}


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


def of_request(content: bytes, structure: Structure, invert: str) -> bytes:
    """A request for the strokes in a picture file. `structure` is that of the whole file."""
    return pack({"structure": asdict(structure) | {"trailer": "", "spans": ()}, "invert": invert}, content)


def request_of(values: dict[str, Any], content: bytes) -> tuple[bytes, Structure, str]:
    return content, Structure(**values["structure"]), values["invert"]


def of_scribble(scribble: Scribble) -> bytes:
    """A response with the strokes, one bit for each pixel."""
    height, width = scribble.strokes.shape
    facts = {name: getattr(scribble, name) for name in FACTS}
    return pack({"scribble": facts, "shape": (height, width)}, np.packbits(scribble.strokes).tobytes())


def of_error(error: RequestError) -> bytes:
    return pack({"error": {"code": error.code, "detail": error.detail, "field": error.field}})


def scribble_of(values: dict[str, Any], content: bytes) -> Scribble:
    """The strokes from a response. Raises `RequestError` if the response is an error."""
    if error := values.get("error"):
        raise RequestError(error["code"], error["detail"], field=error["field"])
    height, width = values["shape"]
    bits = np.unpackbits(np.frombuffer(content, np.uint8), count=height * width)
    facts = values["scribble"]
    return Scribble(**{**facts, "size": tuple(facts["size"])}, strokes=bits.reshape(height, width).astype(np.bool_))


# The fields of `Scribble` besides its strokes.
FACTS = ("size", "file_format", "inverted", "flattened", "rotated", "is_photo", "num_frames")
