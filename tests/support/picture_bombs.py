# SPDX-License-Identifier: Apache-2.0
"""Small picture files that need much memory or work, and files that are unusual but harmless."""

import io
import struct
import zlib
from functools import cache
from typing import Any

from PIL import Image, PngImagePlugin


def as_file(picture: Image.Image, file_format: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, file_format, **options)
    return buffer.getvalue()


# ---- PNG


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def with_chunks(png: bytes, *chunks: bytes) -> bytes:
    """The same PNG with chunks after its header."""
    return png[:33] + b"".join(chunks) + png[33:]


@cache
def narrow_png(height: int = 5_000_000, width: int = 1) -> bytes:
    """A PNG with one bit for each pixel, of some kilobytes."""
    return as_file(Image.new("1", (width, height), 1))


def png_that_says(width: int, height: int) -> bytes:
    """A header with these dimensions; the pixels of a small drawing."""
    plain = as_file(drawing())
    return plain[:8] + png_chunk(b"IHDR", struct.pack(">II", width, height) + plain[24:29]) + plain[33:]


def png_with_text(num_bytes: int) -> bytes:
    texts = PngImagePlugin.PngInfo()
    texts.add_text("Comment", "x" * num_bytes)
    return as_file(drawing(), pnginfo=texts)


def png_with_profile(num_bytes: int) -> bytes:
    """An ICC profile that unpacks to this many bytes."""
    return with_chunks(as_file(drawing()), png_chunk(b"iCCP", b"k\0\0" + zlib.compress(bytes(num_bytes), 9)))


def animated_png(num_frames: int) -> bytes:
    """A PNG that announces frames and has none."""
    return with_chunks(as_file(drawing()), png_chunk(b"acTL", struct.pack(">II", num_frames, 0)))


# ---- JPEG


class Bits:
    """Writes the bits of a JPEG scan."""

    def __init__(self) -> None:
        self.written = bytearray()
        self._pending = self._num_pending = 0

    def put(self, value: int, length: int) -> None:
        self._pending = (self._pending << length) | value
        self._num_pending += length
        while self._num_pending >= 8:
            octet = self._pending >> (self._num_pending - 8) & 255
            self.written += bytes((octet, 0)) if octet == 255 else bytes((octet,))
            self._num_pending -= 8
        self._pending &= (1 << self._num_pending) - 1

    def end(self) -> bytes:
        if self._num_pending:
            self.put((1 << (8 - self._num_pending)) - 1, 8 - self._num_pending)
        return bytes(self.written)


def jpeg_segment(marker: int, data: bytes) -> bytes:
    return b"\xff" + bytes((marker,)) + struct.pack(">H", len(data) + 2) + data


@cache
def progressive_jpeg(width: int, height: int, num_scans: int, *, between: bytes = b"") -> bytes:
    """A grey JPEG. Each scan is some tens of bytes and one pass over all pixels. `between` is put between scans."""
    num_blocks = (width + 7) // 8 * ((height + 7) // 8)
    first, further = Bits(), Bits()
    for _ in range(num_blocks):
        first.put(0, 1)
    left = num_blocks
    while left >= 16384:  # "no coefficients in the next n blocks"
        run = min(left, 32767)
        further.put(0, 1)
        further.put(run - 16384, 14)
        left -= run
    for _ in range(left):
        further.put(0b10, 2)
    compressed = further.end()
    scans = [
        jpeg_segment(0xDA, b"\1\1\0" + bytes((1 + each % 63,) * 2) + b"\0") + compressed for each in range(num_scans)
    ]
    return b"".join(
        (
            b"\xff\xd8",
            jpeg_segment(0xDB, b"\0" + b"\1" * 64),
            jpeg_segment(0xC2, struct.pack(">BHHB", 8, height, width, 1) + b"\1\x11\0"),
            jpeg_segment(0xC4, b"\0\1" + bytes(15) + b"\0"),
            jpeg_segment(0xC4, b"\x10\1\1" + bytes(14) + b"\xe0\0"),
            jpeg_segment(0xDA, b"\1\1\0\0\0\0") + first.end(),
            between,
            *scans,
            b"\xff\xd9",
        )
    )


def with_segments(jpeg: bytes, *segments: bytes) -> bytes:
    return jpeg[:2] + b"".join(segments) + jpeg[2:]


# ---- the others


def animated_gif(num_frames: int) -> bytes:
    frames = [Image.new("L", (16, 16), number % 250) for number in range(num_frames)]
    return as_file(frames[0], "GIF", save_all=True, append_images=frames[1:], disposal=2)


def gif_with_comment(num_bytes: int, block: int = 255) -> bytes:
    plain = as_file(drawing(), "GIF")
    first = plain.index(b",", 13)
    return plain[:first] + b"!\xfe" + (bytes((block,)) + b"x" * block) * (num_bytes // block) + b"\0" + plain[first:]


def riff(*chunks: tuple[bytes, bytes]) -> bytes:
    content = b"WEBP" + b"".join(
        kind + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2) for kind, data in chunks
    )
    return b"RIFF" + struct.pack("<I", len(content)) + content


def animated_webp(side: int, num_frames: int = 1) -> bytes:
    """Small frames on a canvas of side x side pixels."""
    plain = as_file(Image.new("RGB", (16, 12), "white"), "WEBP")
    frame = (15).to_bytes(3, "little") + (11).to_bytes(3, "little") + bytes(4) + plain[12:]
    canvas = (side - 1).to_bytes(3, "little") * 2
    return riff((b"VP8X", b"\2\0\0\0" + canvas), (b"ANIM", bytes(6)), *[(b"ANMF", bytes(6) + frame)] * num_frames)


def run_length_bmp(width: int, height: int) -> bytes:
    """Lines of one pixel and an end of line. Pillow fills the lines in Python, pixel by pixel."""
    palette = bytes(4 * 256)
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, 0, 0, 0, 256, 0)
    pixels = b"\1\0\0\0" * height + b"\0\1"
    return (
        b"BM"
        + struct.pack("<IHHI", 54 + len(palette) + len(pixels), 0, 0, 54 + len(palette))
        + header
        + palette
        + pixels
    )


def tiff(*tags: tuple[int, int, int, int], num_directories: int = 1) -> bytes:
    """Tags as number, type, count and value; each directory has the same ones."""
    size = 2 + 12 * len(tags) + 4
    written = b"II*\0" + struct.pack("<I", 8)
    for number in range(num_directories):
        following = 8 + size * (number + 1) if number + 1 < num_directories else 0
        written += struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags)
        written += struct.pack("<I", following)
    return written


def drawing(size: tuple[int, int] = (64, 64)) -> Image.Image:
    picture = Image.new("L", size, 255)
    picture.paste(0, (size[0] // 4, size[1] // 2, size[0] // 2, size[1] // 2 + max(1, size[1] // 16)))
    return picture


SIZE_TAGS = ((256, 4, 1, 64), (257, 4, 1, 64))
FALSE_END = jpeg_segment(0xFE, b"\xff\xd9")

# Rejected before they are decoded, with this code.
BOMBS = {
    "a PNG of 1 x 5,000,000": (narrow_png, "image_too_large"),
    "a PNG of 3 x 16,000": (lambda: narrow_png(16_000, 3), "unsupported_aspect_ratio"),
    "a PNG of 16,000 x 3": (lambda: narrow_png(3, 16_000), "unsupported_aspect_ratio"),
    "a PNG of 20,000 x 20,000": (lambda: png_that_says(20_000, 20_000), "image_too_large"),
    "a PNG of 30,000 chunks": (
        lambda: with_chunks(as_file(drawing()), png_chunk(b"prVt", b"") * 30_000), "image_too_complex"
    ),
    "a PNG of 2,000 frames": (lambda: animated_png(2_000), "image_too_complex"),
    "a JPEG of 30,000 scans": (lambda: progressive_jpeg(3_472, 2_416, 30_000), "image_too_complex"),
    "a large JPEG of 61 scans": (lambda: progressive_jpeg(7_000, 7_000, 60), "image_too_complex"),
    "a JPEG of 2,000,000 bytes of padding": (
        lambda: with_segments(as_file(drawing(), "JPEG"), b"\xff" * 2_000_000), "image_too_complex"
    ),
    "a JPEG of 50,000 comments": (
        lambda: with_segments(as_file(drawing(), "JPEG"), b"\xff\xfe\0\2" * 50_000), "image_too_complex"
    ),
    "a JPEG of 600,000 bytes of tables": (
        lambda: with_segments(as_file(drawing(), "JPEG"), *[jpeg_segment(0xDB, b"\0" + b"\1" * 64) * 9_000]),
        "image_too_complex",
    ),
    "a GIF of one-byte blocks": (lambda: gif_with_comment(1_000_000, 1), "image_too_complex"),
    "a GIF of 1,200 frames": (lambda: animated_gif(1_200), "image_too_complex"),
    "a WebP with a vast canvas": (lambda: animated_webp(16_000), "image_too_large"),
    "a WebP of 2,000 frames": (lambda: animated_webp(64, 2_000), "image_too_complex"),
    "a WebP of 30,000 chunks": (
        lambda: as_file(drawing(), "WEBP") + b"prVt\0\0\0\0" * 30_000, "image_too_complex"
    ),
    "a BMP of line ends": (lambda: run_length_bmp(6_000, 6_000), "image_too_complex"),
    "a BMP that is shorter than its rows": (lambda: as_file(drawing(), "BMP")[:-1000], "truncated_image"),
}  # fmt: skip

# Only the engine reads these.
TIFF_BOMBS = {
    "a TIFF of 300 tags": (lambda: tiff(*SIZE_TAGS, *[(700, 1, 1, 0)] * 300), "image_too_complex"),
    "a TIFF whose tags share a large value": (
        lambda: tiff(*SIZE_TAGS, *[(700, 1, 1_000_000, 8)] * 200) + bytes(1_000_000), "image_too_complex"
    ),
    "a TIFF of 2,000 directories": (lambda: tiff(*SIZE_TAGS, num_directories=2_000), "image_too_complex"),
    "a TIFF of 60,000 x 60,000": (lambda: tiff((256, 4, 1, 60_000), (257, 4, 1, 60_000)), "image_too_large"),
}  # fmt: skip

# Unusual, or large in parts that no decoder needs, or both. The drawing is read.
HARMLESS = {
    "a PNG with 3 MB of text": lambda: png_with_text(3_000_000),
    "a PNG with 20 texts that unpack to 100 MB": lambda: with_chunks(
        as_file(drawing()), png_chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(5_000_000), 9)) * 20
    ),
    "a PNG with an international text of 70 MB": lambda: with_chunks(
        as_file(drawing()), png_chunk(b"iTXt", b"k\0\1\0\0\0" + zlib.compress(bytes(70_000_000), 9))
    ),
    "a PNG with an ICC profile of 70 MB": lambda: png_with_profile(70_000_000),
    "an animated PNG": lambda: animated_png(3),
    "a JPEG with an ICC profile of 16 MB": lambda: with_segments(
        as_file(drawing(), "JPEG"),
        *[jpeg_segment(0xE2, b"ICC_PROFILE\0" + bytes((number, 255)) + b"x" * 65_000) for number in range(1, 256)],
    ),
    "a JPEG with 10,000 EXIF segments": lambda: with_segments(
        as_file(drawing(), "JPEG"), jpeg_segment(0xE1, b"Exif\0\0" + b"x" * 1_000) * 10_000
    ),
    "a JPEG followed by a film": lambda: as_file(drawing(), "JPEG") + b"\xff\xda\0\1" * 1_000,
    "a JPEG of 64 scans": lambda: progressive_jpeg(640, 480, 63),
    "a GIF with 2 MB of comment": lambda: gif_with_comment(2_000_000),
    "an animated GIF": lambda: animated_gif(30),
    "an animated WebP": lambda: animated_webp(64, 3),
    "a WebP with large metadata": lambda: as_file(
        drawing(), "WEBP", icc_profile=bytes(1_000_000), xmp=bytes(1_000_000), exif=b"Exif\0\0" + bytes(500_000)
    ),
    "a run-length encoded BMP": lambda: run_length_bmp(200, 200),
}
