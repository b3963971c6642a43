# SPDX-License-Identifier: Apache-2.0
"""EXIF: the orientation of a photo."""

import struct

from fastapi_triton.endpoints.image_files.structure import MAX_TAGS

EXIF_PREFIX = b"Exif\0\0"


def exif_orientation(exif: bytes) -> int:
    """The orientation from 1 (upright) to 8; 1 if the EXIF data has none."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    if order is None:
        return 1
    try:
        position = struct.unpack_from(order + "I", exif, 4)[0]
        num_tags = min(struct.unpack_from(order + "H", exif, position)[0], MAX_TAGS)
        for start in range(position + 2, position + 2 + 12 * num_tags, 12):
            tag, kind, _, value = struct.unpack_from(order + "HHIH", exif, start)
            if tag == 0x0112 and kind == 3:
                return value if 1 <= value <= 8 else 1
    except struct.error:
        pass
    return 1
