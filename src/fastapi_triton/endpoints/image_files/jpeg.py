# SPDX-License-Identifier: Apache-2.0
"""JPEG: segments, then scans, each of which is a pass over all pixels."""

import re
import struct
from collections.abc import Iterator
from itertools import islice

import numpy as np

from fastapi_triton.endpoints.image_files.exif import EXIF_PREFIX, exif_orientation
from fastapi_triton.endpoints.image_files.structure import (
    MAX_CHUNKS,
    MAX_PASSES_AT_FULL_SIZE,
    Format,
    Spans,
    Structure,
    cut_off,
    too_complex,
)

# Encoders write 1 to 10 scans, and a few write 64.
MAX_SCANS = 100
# Bytes of tables before the first scan.
MAX_TABLE_BYTES = 256 * 1024
# The bytes that are searched for markers at once: they fit into the processor's cache.
FIND_BYTES = 64 * 1024
# Start of frame: C0 to CF except the tables C4 and CC and the reserved C8.
FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
START_OF_SCAN, END, APP1 = 0xDA, 0xD9, 0xE1
WITHOUT_LENGTH = frozenset(range(0xD0, 0xD9))
METADATA = frozenset(
    (*range(0xE1, 0xEE), 0xEF, 0xFE)
)  # without APP0 (JFIF) and APP14 (Adobe), which define the colours


def scan_jpeg(data: bytes) -> Structure:
    """Read the structure. Keeps the tables, the frame header and all scans, and counts the scans."""
    segments, position = read_segments(data)
    kept, size, orientation, table_bytes = Spans([(0, 2)]), None, None, 0
    for marker, start, end in segments:
        if marker in METADATA:
            if marker == APP1 and orientation is None and data.startswith(EXIF_PREFIX, start + 4):
                orientation = exif_orientation(data[start + 4 + len(EXIF_PREFIX) : end])
            continue
        kept.keep(start, end)
        table_bytes += end - start
        if marker in FRAMES and size is None:
            height, width = struct.unpack_from(">HH", data, start + 5)
            size = width, height
    if size is None or not size[0] * size[1]:
        raise cut_off()
    if table_bytes > MAX_TABLE_BYTES:
        raise too_complex(f"has {table_bytes:,} bytes of tables before its first scan")
    num_scans, end = count_scans(data, position)
    kept.keep(position, end)
    return Structure("JPEG", *size, num_scans, 1, orientation or 1, tuple(kept.spans))


def read_segments(data: bytes) -> tuple[list[tuple[int, int, int]], int]:
    """The segments before the first scan, each as marker, start and end, and the start of that scan."""
    segments: list[tuple[int, int, int]] = []
    position = 2
    for _ in range(MAX_CHUNKS):
        marker = data[position + 1]
        if data[position] != 0xFF or marker < 0xC0 or marker == END:
            raise cut_off()
        if marker == START_OF_SCAN:
            return segments, position
        if marker == 0xFF:  # padding
            position += 1
        elif marker in WITHOUT_LENGTH:
            position += 2
        else:
            end = position + 2 + max(2, int.from_bytes(data[position + 2 : position + 4]))
            segments.append((marker, position, end))
            position = end
    raise too_complex(f"has more than {MAX_CHUNKS:,} segments before its first scan")


def count_scans(data: bytes, position: int) -> tuple[int, int]:
    """The number of scans after `position`, and the end of the last one.

    Compressed data cannot hold a marker, but data after the image can: phones append films to their photos. Up to the
    number of scans that is allowed at any size, the whole file is kept. Only a file with more is cut at the first end
    marker, so that a false end marker cannot hide scans.
    """
    scans = list(islice(find_markers(data, START_OF_SCAN, position), MAX_SCANS + 1))
    if len(scans) <= MAX_PASSES_AT_FULL_SIZE:
        return len(scans), len(data)
    end = next(find_markers(data, END, position), len(data) - 2) + 2
    num_scans = sum(start < end for start in scans)
    if num_scans > MAX_SCANS:
        raise too_complex(f"has more than {MAX_SCANS} scans")
    return num_scans, end


def find_markers(data: bytes, marker: int, position: int) -> Iterator[int]:
    """The positions of the marker after `position`.

    Takes the same time for any bytes; `bytes.find` takes ten times as long for bytes that nearly match.
    """
    octets = np.frombuffer(data, np.uint8)
    for start in range(position, len(data), FIND_BYTES):
        piece = octets[start : start + FIND_BYTES + 1]
        yield from (start + np.flatnonzero((piece[:-1] == 0xFF) & (piece[1:] == marker))).tolist()


JPEG = Format("JPEG", re.compile(rb"\xff\xd8\xff"), scan_jpeg)
