# SPDX-License-Identifier: Apache-2.0
"""BMP: one header, then rows of pixels."""

import re
import struct

from diffusion_engine.image_files.structure import Format, Structure, cut_off

RUN_LENGTH_ENCODINGS = (1, 2)
# Pillow decodes run-length encoded BMP in Python, which takes as long as this many passes.
RUN_LENGTH_PASSES = 160


def scan_bmp(data: bytes) -> Structure:
    """Read the structure. The file must be as long as its header announces, unless it is run-length encoded."""
    offset, header_size = struct.unpack_from("<II", data, 10)
    if header_size == 12:
        width, height, _, num_bits = struct.unpack_from("<HHHH", data, 18)
        compression = 0
    else:
        width, height, _, num_bits, compression = struct.unpack_from("<iiHHI", data, 18)
        height = abs(height)
    if width <= 0 or height <= 0:
        raise cut_off()
    if compression in RUN_LENGTH_ENCODINGS:
        return Structure("BMP", width, height, RUN_LENGTH_PASSES)
    announced_bytes = offset + (width * num_bits + 31) // 32 * 4 * height
    return Structure("BMP", width, height, is_cut_off=announced_bytes > len(data))


BMP = Format("BMP", re.compile(rb"BM"), scan_bmp)
