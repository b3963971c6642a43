# SPDX-License-Identifier: Apache-2.0
"""The texts in picture files, as in A1111's PNG Info: written into PNG, and read from PNG, JPEG and WebP in bounded
memory."""

import asyncio
import io
import struct
import zlib
from collections.abc import Iterator

import pybase64
from PIL import ExifTags, Image

from fastapi_triton.endpoints import images
from fastapi_triton.endpoints.image_files.png import CHUNK, FIRST_CHUNK, SIGNATURE
from fastapi_triton.endpoints.image_files.structure import MAX_CHUNKS

PARAMETERS = "parameters"
# The end of a PNG's first chunk.
_HEADER_BYTES = 33
# Of the texts that are read from one file, decompressed.
_MAX_TEXT_BYTES = 1_000_000
_MAX_TEXTS = 100  # read or not: decompressing one takes milliseconds
_MAX_KEYWORD = 79
# EXIF's names of encodings, and Python's.
_ENCODINGS = {b"UNICODE\0": "utf-16-be", b"ASCII\0\0\0": "ascii"}
_MADE_BY_THIS_SERVER = '{"made_by"'
_RECEIPT = "fastapi-triton"


async def with_parameters(picture: str, text: str) -> str:
    """A PNG in base64 text with A1111's infotext. Other formats are returned unchanged. Its pixels and texts stay."""
    return await asyncio.to_thread(_with_parameters, picture, text)


def _with_parameters(picture: str, text: str) -> str:
    data = memoryview(images.decode(picture))
    if bytes(data[:8]) != SIGNATURE or bytes(data[8:16]) != FIRST_CHUNK:
        return picture
    parts = (data[:_HEADER_BYTES], _text_chunk(PARAMETERS, text), data[_HEADER_BYTES:])
    return pybase64.b64encode(b"".join(parts)).decode("ascii")


def _text_chunk(keyword: str, text: str) -> bytes:
    """A chunk as Pillow writes it for A1111: Latin-1 if the text allows it, else UTF-8."""
    name = keyword.encode() + b"\0"
    try:
        kind, content = b"tEXt", name + text.encode("latin-1")
    except UnicodeEncodeError:
        kind, content = b"iTXt", name + b"\0\0\0\0" + text.encode("utf-8", "replace")
    return CHUNK.pack(len(content), kind) + content + zlib.crc32(kind + content).to_bytes(4)


async def read(picture: str) -> tuple[str, dict[str, str]]:
    """The infotext of a checked picture in base64 text, and its other texts by keyword."""
    return await asyncio.to_thread(_read, picture)


def _read(picture: str) -> tuple[str, dict[str, str]]:
    data = images.decode(picture)
    texts = dict(_of_png(data)) if data.startswith(SIGNATURE) else _of_exif(data)
    return texts.pop(PARAMETERS, ""), texts


def _of_png(data: bytes) -> Iterator[tuple[str, str]]:
    position, left, num_left = len(SIGNATURE), _MAX_TEXT_BYTES, _MAX_TEXTS
    for _ in range(MAX_CHUNKS):
        if position + 12 > len(data) or not num_left:
            return
        length, kind = CHUNK.unpack_from(data, position)
        if kind in _READERS and position + 12 + length <= len(data):
            keyword, separator, content = data[position + 8 : position + 8 + length].partition(b"\0")
            text = _READERS[kind](content, left) if separator and len(keyword) <= _MAX_KEYWORD else None
            num_left -= 1
            if text is not None:
                yield keyword.decode("latin-1"), text
                left -= len(text)
        position += 12 + length


def _plain_text(content: bytes, most: int) -> str | None:
    return content.decode("latin-1") if len(content) <= most else None


def _compressed_text(content: bytes, most: int) -> str | None:
    inflated = _inflated(content[1:], most)
    return None if inflated is None else inflated.decode("latin-1")


def _international_text(content: bytes, most: int) -> str | None:
    parts = content[2:].split(b"\0", 2)  # language, translated keyword, text
    inflated = _inflated(parts[-1], most) if content[:1] == b"\1" else parts[-1]
    return inflated.decode("utf-8", "replace") if inflated and len(parts) == 3 and len(inflated) <= most else None


def _inflated(content: bytes, most: int) -> bytes | None:
    """The decompressed bytes; None if they are damaged, or more than `most`."""
    decompressor = zlib.decompressobj()
    try:
        inflated = decompressor.decompress(content, max(1, most))
    except zlib.error:
        return None
    return inflated if decompressor.eof else None


_READERS = {b"tEXt": _plain_text, b"zTXt": _compressed_text, b"iTXt": _international_text}


def _of_exif(data: bytes) -> dict[str, str]:
    """The text of a JPEG or WebP, which A1111 and this server write as EXIF's UserComment."""
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG", "WEBP")) as picture:
            comment = picture.getexif().get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.UserComment)
    except (OSError, SyntaxError, ValueError, LookupError, TypeError, OverflowError, struct.error):
        return {}
    if not isinstance(comment, bytes) or comment[:8] not in _ENCODINGS or len(comment) > _MAX_TEXT_BYTES:
        return {}
    text = comment[8:].decode(_ENCODINGS[comment[:8]], "replace")
    return {_RECEIPT if text.startswith(_MADE_BY_THIS_SERVER) else PARAMETERS: text}
