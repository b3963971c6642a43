# SPDX-License-Identifier: Apache-2.0
"""WebP: RIFF chunks with one frame or several."""

import re
import struct

from diffusion_engine.image_files.exif import EXIF_PREFIX, exif_orientation
from diffusion_engine.image_files.structure import (
    MAX_CHUNKS,
    Format,
    Structure,
    cut_off,
    require_frames,
    too_complex,
)

HEADS = frozenset((b"VP8 ", b"VP8L", b"VP8X"))


def scan_webp(data: bytes) -> Structure:
    """Read the structure. The whole file is kept, because libwebp reads the container itself."""
    width = height = num_frames = 0
    orientation, position = None, 12
    for _ in range(MAX_CHUNKS):
        if position + 8 > len(data):
            break
        kind, length = struct.unpack_from("<4sI", data, position)
        start = position + 8
        if kind in HEADS and (kind == b"VP8X" or not num_frames):
            size = webp_size(kind, data, start)
            width, height = max(width, size[0]), max(height, size[1])
        elif kind == b"ANMF":
            num_frames += 1
            require_frames(num_frames)
        elif kind == b"EXIF" and orientation is None:
            orientation = exif_orientation(data[start : start + length].removeprefix(EXIF_PREFIX))
        position = start + length + length % 2
    else:
        raise too_complex(f"has more than {MAX_CHUNKS:,} chunks")
    if not width * height:
        raise cut_off()
    return Structure("WEBP", width, height, 1, max(1, num_frames), orientation or 1)


def webp_size(kind: bytes, data: bytes, start: int) -> tuple[int, int]:
    if kind == b"VP8X":
        width, height = data[start + 4 : start + 7], data[start + 7 : start + 10]
        return 1 + int.from_bytes(width, "little"), 1 + int.from_bytes(height, "little")
    if kind == b"VP8L":
        bits = struct.unpack_from("<I", data, start + 1)[0]
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    sides = struct.unpack_from("<HH", data, start + 6)
    return sides[0] & 0x3FFF, sides[1] & 0x3FFF


WEBP = Format("WEBP", re.compile(rb"RIFF....WEBP", re.DOTALL), scan_webp)
