# SPDX-License-Identifier: Apache-2.0
"""EXIF's user comment in a picture file.

Reads only the directories on the way to it: tags may share their bytes, so reading all of them can take a thousand
times the file's memory.
"""

import struct

from fastapi_triton.endpoints.image_files.exif import EXIF_PREFIX
from fastapi_triton.endpoints.image_files.jpeg import APP1, read_segments
from fastapi_triton.endpoints.image_files.structure import MAX_CHUNKS, MAX_TAGS, StructureError

_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}
# Tags: the directory that has the user comment, and the user comment.
_EXIF_DIRECTORY, _USER_COMMENT = 0x8769, 0x9286


def user_comment(data: bytes) -> bytes:
    """The user comment of a JPEG or WebP, with the 8 bytes that name its encoding; empty if it has none."""
    try:
        exif = _of_webp(data) if data.startswith(b"RIFF") else _of_jpeg(data)
        order = _ORDERS[exif[:4]]
        first = struct.unpack_from(order + "I", exif, 4)[0]
        _, directory = _value(exif, order, first, _EXIF_DIRECTORY)
        length, start = _value(exif, order, directory, _USER_COMMENT)
    except (struct.error, LookupError, StructureError):
        return b""
    return exif[start : start + length]


def _value(exif: bytes, order: str, directory: int, wanted: int) -> tuple[int, int]:
    """The count and the offset of a tag's value in the directory at this position.

    Raises:
        LookupError: it has no such tag.
    """
    num_tags = min(struct.unpack_from(order + "H", exif, directory)[0], MAX_TAGS)
    for start in range(directory + 2, directory + 2 + 12 * num_tags, 12):
        tag, _, count, offset = struct.unpack_from(order + "HHII", exif, start)
        if tag == wanted:
            return count, offset
    raise LookupError(wanted)


def _of_jpeg(data: bytes) -> bytes:
    segments = read_segments(data)[0] if data.startswith(b"\xff\xd8") else []
    prefix = len(EXIF_PREFIX)
    found = (data[start + 4 : end] for marker, start, end in segments if marker == APP1)
    return next((content[prefix:] for content in found if content.startswith(EXIF_PREFIX)), b"")


def _of_webp(data: bytes) -> bytes:
    position = 12
    for _ in range(MAX_CHUNKS):
        kind, length = struct.unpack_from("<4sI", data, position)
        start = position + 8
        if kind == b"EXIF":
            return data[start : start + length].removeprefix(EXIF_PREFIX)
        position = start + length + length % 2
    return b""
