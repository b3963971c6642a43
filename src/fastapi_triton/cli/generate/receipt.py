# SPDX-License-Identifier: Apache-2.0
"""The receipt in a picture file, which makes it again; and what would come out differently on this server."""

import base64
import binascii
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson
from PIL import ExifTags, Image
from pydantic import BaseModel, ValidationError

from fastapi_triton.cli.generate.errors import UsageError
from fastapi_triton.endpoints.image_files.jpeg import JPEG
from fastapi_triton.endpoints.image_files.png import PNG
from fastapi_triton.endpoints.image_files.structure import StructureError, scan
from fastapi_triton.endpoints.image_files.webp import WEBP

KEYWORD = "fastapi-triton"
NEWEST = 1
TEXTS = (b"tEXt", b"zTXt", b"iTXt")


class RequestFields(BaseModel):
    """The fields of the request that made the picture."""

    prompt: str | None = None
    negative_prompt: str | None = None
    conditioning_scale: float
    seed: int
    num_inference_steps: int
    guidance_scale: float
    control_guidance_start: float
    control_guidance_end: float
    width: int
    height: int
    scheduler: str
    output_format: str
    output_quality: int


class Receipt(RequestFields):
    """What the engine wrote into the file."""

    made_by: str
    receipt: int
    reproducible: bool = False
    checkpoint: str
    checkpoint_revision: str
    engine: dict[str, str]
    pixels_sha256: str
    scribble_sha256: str | None = None
    scribble_png: str | None = None

    def fields(self) -> dict[str, Any]:
        """The request that made the picture, but for the scribble."""
        fields = self.model_dump(include=set(RequestFields.model_fields), exclude_none=True)
        # Servers whose request has no such field refuse it.
        return fields | ({"reproducible": True} if self.reproducible else {})

    def scribble(self) -> bytes | None:
        """The scribble as the engine saw it, white strokes on black; None where it was too big to be carried."""
        return base64.b64decode(self.scribble_png, validate=True) if self.scribble_png else None

    def differences(self, description: Mapping[str, Any]) -> list[str]:
        """Why a server with this description may make a different picture, in sentences."""
        differences = []
        checkpoint, revision = description.get("name"), description.get("revision")
        if checkpoint != self.checkpoint:
            differences.append(f"It was made with the checkpoint {self.checkpoint}; this server has {checkpoint}.")
        elif revision != self.checkpoint_revision:
            differences.append(
                f"The weights of {checkpoint} are others now: {self.checkpoint_revision} then, {revision} now."
            )
        engine = description.get("engine", {})
        changed = [
            f"{name} {then} then, {engine.get(name)} now"
            for name, then in self.engine.items()
            if engine.get(name) != then
        ]
        if changed:
            differences.append(f"The engine is another: {'; '.join(changed)}.")
        return differences


def read(path: Path) -> Receipt:
    """The receipt of a picture file.

    Raises:
        UsageError: no such file, no picture, no receipt, or one that cannot be read; the text says which.
    """
    text = _text(path)
    try:
        content = orjson.loads(text) if text else None
    except orjson.JSONDecodeError:
        raise UsageError(
            f"--from: the receipt in {path} is damaged. Give the prompt and the scribble instead."
        ) from None
    if not isinstance(content, dict) or content.get("made_by") != "fastapi-triton":
        raise UsageError(
            f"--from: {path} carries no receipt. It was made by something else, or with the receipt switched off, or "
            "a program that saved it anew left it out."
        )
    if not isinstance(content.get("receipt"), int) or content["receipt"] > NEWEST:
        raise UsageError(f"--from: the receipt in {path} is of a newer kind than this version reads. Update it.")
    try:
        receipt = Receipt.model_validate(content)
        receipt.scribble()
    except (ValidationError, binascii.Error):
        raise UsageError(
            f"--from: the receipt in {path} is damaged. Give the prompt and the scribble instead."
        ) from None
    return receipt


def _texts(data: bytes) -> Iterator[tuple[int, int]]:
    """Start and end of the text chunks of a whole PNG that hold a receipt."""
    position = 33
    while position + 8 <= len(data):
        end = position + 12 + int.from_bytes(data[position : position + 4])
        if data[position + 4 : position + 8] in TEXTS and data.startswith(KEYWORD.encode() + b"\0", position + 8):
            yield position, end
        position = end


def _text(path: Path) -> str | None:
    """The text that the engine writes receipts into; None: the picture has none."""
    try:
        data = path.read_bytes()
        structure = scan(data, (PNG, WEBP, JPEG))
        if structure.file_format == "PNG":
            # Other texts are hidden from Pillow, which refuses a file with large ones.
            chunks = [data[start:end] for start, end in _texts(data)]
            data = data[:33] + b"".join(chunks) + structure.essential(data)[33:]
        with Image.open(io.BytesIO(data), formats=(structure.file_format,)) as picture:
            if picture.format == "PNG":
                text = picture.info.get(KEYWORD)
                return str(text) if isinstance(text, str) else None  # a plain one
            comment = picture.getexif().get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.UserComment, b"")
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise UsageError(f"--from: {path} cannot be read ({error.strerror}).") from None
    except StructureError as error:
        raise UsageError(f"--from: {path} {error.reason}") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        raise UsageError(f"--from: {path} is damaged.") from None
    if not isinstance(comment, bytes) or not comment.startswith(b"ASCII\0\0\0"):
        return None
    return comment[8:].decode("ascii", "replace")
