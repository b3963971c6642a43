# SPDX-License-Identifier: Apache-2.0
"""Reads the receipt in a picture file, and compares it with a server that makes the picture again."""

import base64
import binascii
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson
from PIL import ExifTags, Image
from pydantic import BaseModel, Field, ValidationError

from fastapi_triton.cli.generate.errors import UsageError
from fastapi_triton.endpoints.image_files.jpeg import JPEG
from fastapi_triton.endpoints.image_files.png import PNG
from fastapi_triton.endpoints.image_files.structure import StructureError, scan
from fastapi_triton.endpoints.image_files.webp import WEBP

KEYWORD = "fastapi-triton"
NEWEST = 1
TEXTS = (b"tEXt", b"zTXt", b"iTXt")


class LoRA(BaseModel):
    """A LoRA of the picture."""

    name: str
    scale: float
    sha256: str = Field(exclude=True)  # of its file; not a field of requests


class RequestFields(BaseModel):
    """The fields of the request that made the picture."""

    prompt: str | None = None
    negative_prompt: str | None = None
    prompt_syntax: str | None = None
    clip_skip: int | None = None
    conditioning_scale: float
    seed: int
    num_inference_steps: int
    guidance_scale: float
    control_guidance_start: float
    control_guidance_end: float
    width: int
    height: int
    scheduler: str
    timestep_spacing: str | None = None
    eta: float | None = None
    cache: float | None = None
    loras: list[LoRA] | None = None
    strength: float | None = None
    mask_blur: float | None = None
    output_format: str
    output_quality: int


class Receipt(RequestFields):
    """The receipt that the engine wrote into the file."""

    made_by: str
    receipt: int
    reproducible: bool = False
    checkpoint: str
    checkpoint_revision: str
    engine: dict[str, str]
    pixels_sha256: str
    scribble_sha256: str | None = None
    scribble_png: str | None = None
    init_image_sha256: str | None = None
    mask_sha256: str | None = None

    def fields(self, *, scheduler: str | None = None) -> dict[str, Any]:
        """The fields of the request that made the picture, without the scribble.

        Args:
            scheduler: replaces the receipt's, and so its options.
        """
        options = set() if scheduler in (None, self.scheduler) else {"cache", "eta", "timestep_spacing"}
        fields = self.model_dump(include=RequestFields.model_fields.keys() - options, exclude_none=True)
        # Servers without this field reject it.
        return fields | ({"reproducible": True} if self.reproducible else {})

    def scribble(self) -> bytes | None:
        """The scribble as the engine used it, white strokes on black; None if it was too big for the receipt."""
        return base64.b64decode(self.scribble_png, validate=True) if self.scribble_png else None

    def hash_of(self, field: str) -> str | None:
        """The hash of the picture in `init_image` or `mask`; None for other fields, and if there was none."""
        return {"init_image": self.init_image_sha256, "mask": self.mask_sha256}.get(field)

    def differences(self, description: Mapping[str, Any]) -> list[str]:
        """Sentences on why a server with this description may make a different picture."""
        differences = []
        checkpoint, revision = description.get("name"), description.get("revision")
        if checkpoint != self.checkpoint:
            differences.append(
                f"The picture was made with the checkpoint {self.checkpoint}; this server has {checkpoint}."
            )
        elif revision != self.checkpoint_revision:
            differences.append(
                f"The weights of {checkpoint} have changed: {self.checkpoint_revision} then, {revision} now."
            )
        engine = description.get("engine", {})
        changed = [
            f"{name} {then} then, {engine.get(name)} now"
            for name, then in self.engine.items()
            if engine.get(name) != then
        ]
        if changed:
            differences.append(f"The engine has changed: {'; '.join(changed)}.")
        return differences


def read(path: Path) -> Receipt:
    """The receipt of a picture file.

    Raises:
        UsageError: the file is missing or damaged, is not a picture, or has no valid receipt.
    """
    text = _text(path)
    try:
        content = orjson.loads(text) if text else None
    except orjson.JSONDecodeError:
        raise UsageError(
            f"--from: the receipt in {path} is damaged. Pass the prompt and the scribble instead."
        ) from None
    if not isinstance(content, dict) or content.get("made_by") != "fastapi-triton":
        raise UsageError(
            f"--from: {path} has no receipt. Another tool made it, its receipt was turned off, or a program removed it "
            "when it saved the file."
        )
    if not isinstance(content.get("receipt"), int) or content["receipt"] > NEWEST:
        raise UsageError(f"--from: the receipt in {path} has a newer format. Update fastapi-triton.")
    try:
        receipt = Receipt.model_validate(content)
        receipt.scribble()
    except (ValidationError, binascii.Error):
        raise UsageError(
            f"--from: the receipt in {path} is damaged. Pass the prompt and the scribble instead."
        ) from None
    return receipt


def _texts(data: bytes) -> Iterator[tuple[int, int]]:
    """Start and end of the text chunks of a PNG that contain a receipt."""
    position = 33
    while position + 8 <= len(data):
        end = position + 12 + int.from_bytes(data[position : position + 4])
        if data[position + 4 : position + 8] in TEXTS and data.startswith(KEYWORD.encode() + b"\0", position + 8):
            yield position, end
        position = end


def _text(path: Path) -> str | None:
    """The text field in which the engine writes receipts; None if the picture has none."""
    try:
        data = path.read_bytes()
        structure = scan(data, (PNG, WEBP, JPEG))
        if structure.file_format == "PNG":
            # Remove other texts: Pillow rejects a file with large ones.
            chunks = [data[start:end] for start, end in _texts(data)]
            data = data[:33] + b"".join(chunks) + structure.essential(data)[33:]
        with Image.open(io.BytesIO(data), formats=(structure.file_format,)) as picture:
            if picture.format == "PNG":
                text = picture.info.get(KEYWORD)
                return str(text) if isinstance(text, str) else None  # a plain string
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
