# SPDX-License-Identifier: Apache-2.0
"""The structure of an image file, read without decoding it: format, size, and the cost of decoding.

Decoding a small file can take gigabytes of memory or minutes of work. These modules count everything that does, in
bounded time.
"""

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass, field

# PNG chunks, JPEG segments, WebP chunks and TIFF directories. Files of 20 MB have some thousands.
MAX_CHUNKS = 20_000
MAX_FRAMES = 1_000
# The limit of passes over the largest allowed image. A smaller image may take more.
MAX_PASSES_AT_FULL_SIZE = 24
MAX_ASPECT_RATIO = 100
# Of TIFF and EXIF data.
MAX_TAGS = 256
# The orientations that exchange width and height.
SIDEWAYS = (5, 6, 7, 8)

Span = tuple[int, int]


class StructureError(ValueError):
    """Why a file is not decoded: a stable code, and a reason that continues "The picture ..."."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Structure:
    """The contents of an image file. Decoding the first frame needs only the bytes in `spans`."""

    file_format: str
    width: int
    height: int
    num_passes: int = 1  # over all pixels
    num_frames: int = 1
    orientation: int = 1  # as EXIF counts: 1 is upright
    spans: tuple[Span, ...] = ()  # empty: the whole file
    trailer: bytes = b""
    is_cut_off: bool = False

    @property
    def upright_size(self) -> tuple[int, int]:
        """Width and height after the picture has been turned upright."""
        return (self.height, self.width) if self.orientation in SIDEWAYS else (self.width, self.height)

    def essential(self, data: bytes) -> bytes:
        """Only the bytes that decoding the first frame needs."""
        if not self.spans:
            return data
        return b"".join([*(memoryview(data)[start:end] for start, end in self.spans), self.trailer])

    def require(self, *, max_pixels: int, max_side: int) -> None:
        """Raise `StructureError` if decoding this file would take too much memory or work, or if it is cut off."""
        width, height = self.width, self.height
        if width * height > max_pixels:
            raise StructureError(
                "image_too_large",
                f"has {width} x {height} pixels; the limit is {max_pixels:,}. Send a smaller one.",
            )
        if max(width, height) > max_side:
            raise StructureError(
                "image_too_large",
                f"has {width} x {height} pixels; the limit for a side is {max_side:,}. Send a smaller one.",
            )
        if max(width, height) > MAX_ASPECT_RATIO * min(width, height):
            raise StructureError(
                "unsupported_aspect_ratio",
                f"has {width} x {height} pixels; one side may be at most {MAX_ASPECT_RATIO} times the other. Crop it.",
            )
        if self.num_passes * width * height > MAX_PASSES_AT_FULL_SIZE * max_pixels:
            raise too_complex(f"takes {self.num_passes} passes over {width} x {height} pixels to decode")
        if self.is_cut_off:
            raise cut_off()


@dataclass(frozen=True, slots=True)
class Format:
    """A file format: Pillow's name for it, the beginning of its files, and the function that reads their structure."""

    name: str
    start: re.Pattern[bytes]
    read: Callable[[bytes], Structure]


def scan(data: bytes, formats: tuple[Format, ...]) -> Structure:
    """Read the structure of a file in one of these formats.

    Raises:
        StructureError: it is in none of them, it is damaged or cut off, or it has too many parts.
    """
    for each in formats:
        if each.start.match(data):
            try:
                return each.read(data)
            except (IndexError, struct.error):
                raise cut_off() from None
    *others, last = (each.name.replace("WEBP", "WebP") for each in formats)
    names = f"{', '.join(others)} or {last}" if others else last
    raise StructureError("not_an_image", f"is not a {names} file ({len(data):,} bytes). Send one of these.")


def cut_off() -> StructureError:
    return StructureError("truncated_image", "is cut off or damaged. Send the whole file.")


def too_complex(reason: str) -> StructureError:
    return StructureError("image_too_complex", f"{reason}. Save it again as a plain PNG or JPEG.")


@dataclass(slots=True)
class Spans:
    """Collects the bytes to keep. Adjacent spans are merged."""

    spans: list[Span] = field(default_factory=list)

    def keep(self, start: int, end: int) -> None:
        if self.spans and self.spans[-1][1] == start:
            start = self.spans.pop()[0]
        self.spans.append((start, end))


def require_frames(num_frames: int) -> None:
    if num_frames > MAX_FRAMES:
        raise too_complex(f"is an animation of more than {MAX_FRAMES:,} frames")
