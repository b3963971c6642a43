# SPDX-License-Identifier: Apache-2.0
"""PNG: a sequence of chunks, some of which hold the pixels."""

import re
import struct
import zlib

from fastapi_triton.endpoints.image_files.exif import exif_orientation
from fastapi_triton.endpoints.image_files.structure import (
    MAX_CHUNKS,
    Format,
    Spans,
    Structure,
    cut_off,
    require_frames,
    too_complex,
)

SIGNATURE = b"\x89PNG\r\n\x1a\n"
FIRST_CHUNK = b"\x00\x00\x00\x0dIHDR"
NEEDED = frozenset((b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"))
CHUNK = struct.Struct(">I4s")


def scan_png(data: bytes) -> Structure:
    """Read the structure. Keeps the chunks with the pixels of the first frame; drops texts, profiles and frames."""
    width, height = struct.unpack_from(">II", data, 16)
    if data[8:16] != FIRST_CHUNK or zlib.crc32(data[12:29]) != int.from_bytes(data[29:33]) or not width * height:
        raise cut_off()
    position, size, num_frames, kept = 8, len(data), 1, Spans([(0, 8)])
    orientation = None
    for _ in range(MAX_CHUNKS):
        length, kind = CHUNK.unpack_from(data, position)
        end = position + 12 + length
        if end > size:
            break
        if kind in NEEDED:
            kept.keep(position, end)
            if kind == b"IEND":
                break
        elif kind == b"eXIf" and orientation is None:
            orientation = exif_orientation(data[position + 8 : end - 4])
        elif kind == b"acTL":
            num_frames = int.from_bytes(data[position + 8 : position + 12])
        position = end
        if position == size:  # without IEND
            break
    else:
        raise too_complex(f"has more than {MAX_CHUNKS:,} chunks")
    require_frames(num_frames)
    return Structure("PNG", width, height, 1, num_frames, orientation or 1, tuple(kept.spans), b"", end > size)


PNG = Format("PNG", re.compile(re.escape(SIGNATURE)), scan_png)
