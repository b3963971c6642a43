# SPDX-License-Identifier: Apache-2.0
"""GIF: a screen, then frames made of data blocks."""

import re
import struct

from fastapi_triton.endpoints.image_files.structure import Format, Structure, cut_off, require_frames, too_complex

# Of at most 255 bytes each.
MAX_BLOCKS = 200_000


def scan_gif(data: bytes) -> Structure:
    """Read the structure. Keeps the first frame, counts the others, and stops at a limit of blocks."""
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    position = 13 + color_table_size(flags)
    header, control, first, num_frames = (0, position), None, None, 0
    blocks_left = MAX_BLOCKS
    while position < len(data) and data[position] != 0x3B:
        kind, start = data[position], position
        blocks_left -= 1
        if kind == 0x2C:
            left, top, frame_width, frame_height, flags = struct.unpack_from("<HHHHB", data, position + 1)
            num_frames += 1
            require_frames(num_frames)
            position, blocks_left = skip_blocks(data, position + 11 + color_table_size(flags), blocks_left)
            if first is None:
                first = (start, position)
                width, height = max(width, left + frame_width), max(height, top + frame_height)
        elif kind == 0x21:
            position, blocks_left = skip_blocks(data, position + 2, blocks_left)
            if data[start + 1 : start + 2] == b"\xf9" and first is None:
                control = (start, position)
        else:
            position += 1
        if blocks_left < 0:
            raise too_complex(f"has more than {MAX_BLOCKS:,} blocks")
    if first is None or not width * height:
        raise cut_off()
    spans = (header, first) if control is None else (header, control, first)
    return Structure("GIF", width, height, 1, num_frames, 1, spans, b";")


def color_table_size(flags: int) -> int:
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def skip_blocks(data: bytes, position: int, blocks_left: int) -> tuple[int, int]:
    """The position after data blocks and their terminator; the end of the file if it ends within them."""
    size = len(data)
    while position < size and blocks_left >= 0:
        length = data[position]
        position += length + 1
        if not length:
            break
        blocks_left -= 1
    return min(position, size), blocks_left


GIF = Format("GIF", re.compile(rb"GIF8[79]a"), scan_gif)
