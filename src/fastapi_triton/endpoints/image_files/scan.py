# SPDX-License-Identifier: Apache-2.0
"""Any image file → its structure."""

import struct
from collections.abc import Callable, Mapping

from fastapi_triton.endpoints.image_files import bmp, gif, jpeg, png, tiff, webp
from fastapi_triton.endpoints.image_files.structure import Structure, StructureError, cut_off

SIGNATURES: Mapping[str, bytes | tuple[bytes, ...]] = {
    "PNG": png.SIGNATURE,
    "JPEG": b"\xff\xd8\xff",
    "GIF": (b"GIF87a", b"GIF89a"),
    "BMP": b"BM",
    "TIFF": (b"II*\0", b"MM\0*"),
}
SCANNERS: Mapping[str, Callable[[bytes], Structure]] = {
    "PNG": png.scan_png,
    "JPEG": jpeg.scan_jpeg,
    "GIF": gif.scan_gif,
    "WEBP": webp.scan_webp,
    "BMP": bmp.scan_bmp,
    "TIFF": tiff.scan_tiff,
}


def scan(data: bytes, formats: tuple[str, ...]) -> Structure:
    """Reads the structure of a file in one of these formats: PNG, JPEG, GIF, WEBP, BMP, TIFF.

    Raises:
        StructureError: it is in none of them, it is damaged or cut off, or it has too many parts.
    """
    for file_format in formats:
        if _is_of_format(data, file_format):
            try:
                return SCANNERS[file_format](data)
            except (IndexError, struct.error):
                raise cut_off() from None
    names = " or ".join([", ".join(formats[:-1]), formats[-1]] if len(formats) > 1 else formats).replace("WEBP", "WebP")
    raise StructureError("not_an_image", f"is no {names} file ({len(data):,} bytes). Send one of these.")


def _is_of_format(data: bytes, file_format: str) -> bool:
    if file_format == "WEBP":
        return data[:4] == b"RIFF" and data[8:12] == b"WEBP"
    return data.startswith(SIGNATURES[file_format])
