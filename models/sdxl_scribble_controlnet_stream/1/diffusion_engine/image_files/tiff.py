# SPDX-License-Identifier: Apache-2.0
"""TIFF: directories of tags."""

import re
import struct

from diffusion_engine.image_files.structure import (
    MAX_FRAMES,
    MAX_TAGS,
    SIDEWAYS,
    Format,
    Structure,
    cut_off,
    require_frames,
    too_complex,
)

# The limit of values in the first directory, which every decoder reads.
MAX_VALUE_BYTES = 4 * 1024 * 1024
TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
WIDTH, HEIGHT, ORIENTATION = 256, 257, 274


def scan_tiff(data: bytes) -> Structure:
    """Read the structure, from the tags of the first directory. Tags that share a value count it several times."""
    order = "<" if data[:2] == b"II" else ">"
    position = struct.unpack_from(order + "I", data, 4)[0]
    num_tags, next_directory = tiff_directory(data, position, order)
    if num_tags > MAX_TAGS:
        raise too_complex(f"has {num_tags} tags")
    values: dict[int, int] = {}
    value_bytes = 0
    for start in range(position + 2, position + 2 + 12 * num_tags, 12):
        tag, kind, count = struct.unpack_from(order + "HHI", data, start)
        value_bytes += TYPE_BYTES.get(kind, 1) * count
        if tag in (WIDTH, HEIGHT, ORIENTATION):
            values[tag] = struct.unpack_from(order + ("H" if kind == 3 else "I"), data, start + 8)[0]
    if value_bytes > MAX_VALUE_BYTES:
        raise too_complex(f"has {value_bytes:,} bytes of tags")
    width, height = values.get(WIDTH, 0), values.get(HEIGHT, 0)
    if values.get(ORIENTATION) in SIDEWAYS:  # Pillow turns TIFF files upright itself
        width, height = height, width
    if not width * height:
        raise cut_off()
    num_frames = 1
    while next_directory and num_frames <= MAX_FRAMES:  # also ends at a cycle
        num_frames += 1
        _, next_directory = tiff_directory(data, next_directory, order)
    require_frames(num_frames)
    return Structure("TIFF", width, height, 1, num_frames)


def tiff_directory(data: bytes, position: int, order: str) -> tuple[int, int]:
    """The number of tags of a directory, and the position of the next one; 0 if there is none."""
    num_tags = struct.unpack_from(order + "H", data, position)[0]
    end = position + 2 + 12 * num_tags
    following = data[end : end + 4]
    return num_tags, struct.unpack(order + "I", following)[0] if len(following) == 4 else 0


TIFF = Format("TIFF", re.compile(rb"II\*\0|MM\0\*"), scan_tiff)
