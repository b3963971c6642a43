# SPDX-License-Identifier: Apache-2.0
"""Builds the request for pictures from the options, an example or a receipt."""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pybase64

from fastapi_triton.cli.generate import receipt
from fastapi_triton.cli.generate.errors import UsageError
from fastapi_triton.cli.generate.outputs import Outputs
from fastapi_triton.cli.generate.receipt import Receipt
from fastapi_triton.core import bundle

STDIN = "-"
DEFAULT_FORMAT = "png"


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateRequest:
    """The pictures that one run of the command makes."""

    fields: Mapping[str, Any]  # of the HTTP request, without the scribble; pictures as base64
    scribble: bytes
    num: int
    outputs: Outputs
    original: Receipt | None = None
    is_remade: bool = False  # no field is changed, so the pixels must be the same

    def fields_of(self, index: int) -> dict[str, Any]:
        """The fields for one of the pictures. A given seed counts up."""
        seed = self.fields.get("seed")
        return dict(self.fields) | ({} if seed is None else {"seed": seed + index})


def build(
    *,
    prompt: str | None,
    scribble: str | None,
    example: str | None,
    from_picture: Path | None,
    fields: Mapping[str, Any],
    init_image: str | None = None,
    mask: str | None = None,
    num: int,
    output: str | None,
    picture_format: str | None,
    is_forced: bool,
) -> GenerateRequest:
    """Build the request. Options override the receipt or the example.

    Raises:
        UsageError: an option is missing, contradicts another or cannot be read.
    """
    if from_picture and example:
        raise UsageError("--from and --example both name a scribble. Use one of the two.")
    if (from_picture or example) and prompt and scribble is None and _is_file(prompt):
        prompt, scribble = None, prompt  # `--from picture.png scribble.png`
    if example and scribble:
        raise UsageError("--example has its own scribble. Remove the other one, or --example.")
    original = receipt.read(from_picture) if from_picture else None
    drawing = _read(scribble) if scribble else None
    given = {name: value for name, value in {**fields, "prompt": prompt or None}.items() if value is not None}
    known: dict[str, Any] = {}
    if original:
        known = original.fields(scheduler=fields.get("scheduler"))
        if drawing is None:
            drawing = original.scribble()
            known["invert"] = "no"
    if example:
        drawing, known["prompt"] = _example(example)
    merged = known | given
    if not merged.get("prompt"):
        raise UsageError(
            "--from: the receipt has no prompt. Pass it in quotes."
            if original
            else 'The prompt is missing. Write it in quotes before the scribble, as in "a red house in the snow".'
        )
    if drawing is None:
        raise UsageError(
            "--from: the receipt has no scribble, which was too big. Name its file too."
            if original
            else "The scribble is missing. Name an image file after the prompt, or - for standard input, or use one of "
            f"the examples with --example: {', '.join(examples())}."
        )
    pictures = _pictures(original, init_image=init_image, mask=mask)
    if merged.get("seed") == -1:
        del merged["seed"]
    outputs = Outputs.plan(
        output,
        num=num,
        picture_format=picture_format,
        is_forced=is_forced,
        title=f"{from_picture.stem}-again" if from_picture else merged["prompt"],
        default=original.output_format if original else DEFAULT_FORMAT,
    )
    return GenerateRequest(
        fields=merged | pictures | {"output_format": outputs.picture_format},
        scribble=drawing,
        num=num,
        outputs=outputs,
        original=original,
        is_remade=original is not None and num == 1 and not _changes(original, known, given | pictures),
    )


def examples() -> dict[str, str]:
    """The example scribbles of the package: name → prompt."""
    file = bundle.examples() / "examples.json"
    if not file.is_file():
        return {}
    return {Path(each["file"]).stem: each["prompt"] for each in json.loads(file.read_text(encoding="utf-8"))}


def _example(name: str) -> tuple[bytes, str]:
    prompts = examples()
    if name not in prompts:
        raise UsageError(f"There is no example {name}. Choose from {', '.join(prompts)}.")
    return (bundle.examples() / f"{name}.png").read_bytes(), prompts[name]


def _pictures(original: Receipt | None, **files: str | None) -> dict[str, str]:
    """The pictures in these files, in base64, by field."""
    pictures = {}
    for name, file in files.items():
        option = f"--{name.replace('_', '-')}"
        if file:
            pictures[name] = pybase64.b64encode(_read(file, option)).decode("ascii")
        elif original and original.hash_of(name):
            raise UsageError(
                f"--from: the picture was made with another one, which its receipt lacks. Name it with {option}."
            )
    return pictures


def _changes(original: Receipt, known: Mapping[str, Any], given: Mapping[str, Any]) -> list[str]:
    """The given fields that change the picture. Whether a given picture is the original one, its hash says later."""
    return [
        name
        for name, value in given.items()
        if name not in ("receipt", "output_quality") and known.get(name) != value and not original.hash_of(name)
    ]


def lora(option: str) -> dict[str, Any]:
    """The LoRA of an option such as `watercolour:0.8`."""
    name, _, scale = option.rpartition(":")
    try:
        return {"name": name, "scale": float(scale)} if name else {"name": option, "scale": 1.0}
    except ValueError:
        raise UsageError(f"--lora {option}: the scale {scale} is not a number. Write NAME or NAME:SCALE.") from None


def _read(file: str, what: str = "The scribble") -> bytes:
    if file == STDIN:
        content = sys.stdin.buffer.read()
        if not content:
            raise UsageError(f"Standard input is empty; {what.replace('The', 'the')} was expected there.")
        return content
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise UsageError(f"{what} {file} cannot be read ({error.strerror}).") from None


def _is_file(name: str) -> bool:
    try:
        return name == STDIN or Path(name).is_file()
    except OSError:  # a prompt longer than any file name
        return False
