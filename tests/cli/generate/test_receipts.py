# SPDX-License-Identifier: Apache-2.0
"""Receipts in picture files: valid, missing and damaged ones, and changes since they were written."""

import base64
import json
import zlib
from pathlib import Path
from typing import Any

import pytest
from diffusion_engine.pictures import encode_picture
from PIL import Image

from fastapi_triton.cli.generate import receipt, request
from fastapi_triton.cli.generate.client import GeneratedPicture
from fastapi_triton.cli.generate.errors import UsageError
from fastapi_triton.cli.generate.progress import ProgressDisplay
from fastapi_triton.cli.generate.run import GenerateRun, RunReport
from support.picture_bombs import png_chunk, with_chunks
from support.scribble_app import picture

ENGINE = {"version": "0.1.0", "device": "cpu", "dtype": "float32", "torch": "2.13.0", "diffusers": "0.42.1"}
CONTENT = {
    "made_by": "fastapi-triton", "receipt": 1, "prompt": "ein Häuschen 🏠", "negative_prompt": "",
    "prompt_syntax": "a1111", "clip_skip": 1, "seed": 7,
    "conditioning_scale": 1.0, "num_inference_steps": 12, "guidance_scale": 2.5, "control_guidance_start": 0.0,
    "control_guidance_end": 1.0, "width": 128, "height": 128, "scheduler": "ddim", "eta": 0.5,
    "timestep_spacing": "trailing", "cache": 0.5,
    "loras": [{"name": "ink", "scale": 0.8, "sha256": "44"}], "output_format": "webp", "output_quality": 90,
    "checkpoint": "demo", "checkpoint_revision": "abc", "engine": ENGINE, "pixels_sha256": "00",
    "scribble_sha256": "11", "scribble_png": base64.b64encode(picture()).decode(),
}  # fmt: skip
FIELDS = {name: value for name, value in CONTENT.items() if name in receipt.RequestFields.model_fields}
FIELDS["loras"] = [{"name": "ink", "scale": 0.8}]
DESCRIPTION = {"name": "demo", "revision": "abc", "engine": {**ENGINE, "max_rows": {}}}


def written(folder: Path, output_format: str = "png", text: str | None = None, **changes: Any) -> Path:
    """A picture with a receipt; a part that is None is left out."""
    content = {name: value for name, value in {**CONTENT, **changes}.items() if value is not None}
    path = folder / f"made.{output_format}"
    text = json.dumps(content) if text is None else text
    image = Image.new("RGB", (128, 128))
    path.write_bytes(encode_picture(image, output_format=output_format, output_quality=90, receipt=text))
    return path


def build(
    path: Path,
    prompt: str | None = None,
    scribble: str | None = None,
    init_image: str | None = None,
    mask: str | None = None,
    **fields: Any,
) -> request.GenerateRequest:
    return request.build(
        prompt=prompt, scribble=scribble, example=None, from_picture=path, fields=fields, init_image=init_image,
        mask=mask, num=1, output=None, picture_format=None, is_forced=False,
    )  # fmt: skip


@pytest.mark.parametrize("output_format", ["png", "webp", "jpeg"])
def test_a_receipt_is_read_from_every_format(tmp_path: Path, output_format: str) -> None:
    read = receipt.read(written(tmp_path, output_format))
    assert read.fields() == FIELDS
    assert read.scribble() == picture()


def test_options_of_the_prompt_are_left_out_if_the_receipt_has_none(tmp_path: Path) -> None:
    fields = receipt.read(written(tmp_path, prompt_syntax=None, clip_skip=None)).fields()
    assert not {"prompt_syntax", "clip_skip"} & fields.keys()


def test_a_reproducible_picture_is_made_again_as_a_reproducible_one(tmp_path: Path) -> None:
    assert receipt.read(written(tmp_path, reproducible=True)).fields()["reproducible"] is True
    assert "reproducible" not in receipt.read(written(tmp_path, reproducible=False)).fields()
    assert build(written(tmp_path, reproducible=True), reproducible=True).is_remade


def test_a_picture_made_from_another_one_needs_that_one_again(tmp_path: Path) -> None:
    path = written(tmp_path, init_image_sha256="22", mask_sha256="33", strength=0.5)
    other = tmp_path / "other.png"
    other.write_bytes(picture())
    with pytest.raises(UsageError, match="--init-image"):
        build(path)
    with pytest.raises(UsageError, match="--mask"):
        build(path, init_image=str(other))
    made = build(path, init_image=str(other), mask=str(other))
    assert base64.b64decode(made.fields_of(0)["mask"]) == picture()
    assert made.fields_of(0)["strength"] == 0.5
    assert made.is_remade


def test_a_picture_to_start_from_makes_another_picture(tmp_path: Path) -> None:
    other = tmp_path / "other.png"
    other.write_bytes(picture())
    assert not build(written(tmp_path), init_image=str(other)).is_remade


def test_a_receipt_gives_the_original_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = build(written(tmp_path, "webp"))
    assert made.fields_of(0) == FIELDS | {"invert": "no"}
    assert made.scribble == picture()
    assert made.is_remade
    assert [path.name for path in made.outputs.paths] == ["made-again.webp"]


def test_options_override_the_receipt(tmp_path: Path) -> None:
    changed = build(written(tmp_path), prompt="a blue house", num_inference_steps=5, guidance_scale=2.5)
    assert (changed.fields_of(0)["prompt"], changed.fields_of(0)["num_inference_steps"]) == ("a blue house", 5)
    assert changed.fields_of(0)["seed"] == 7
    assert not changed.is_remade
    assert build(written(tmp_path), guidance_scale=2.5).is_remade
    # `cache`, `eta` and `timestep_spacing` belong to the scheduler.
    other = build(written(tmp_path), scheduler="lcm").fields_of(0)
    assert (other["scheduler"], other.keys() & {"cache", "eta", "timestep_spacing"}) == ("lcm", set())
    assert build(written(tmp_path), scheduler="ddim").is_remade


def test_a_named_scribble_replaces_the_one_in_the_receipt(tmp_path: Path) -> None:
    own = tmp_path / "own.png"
    own.write_bytes(picture(size=(20, 20)))
    for made in (build(written(tmp_path), str(own)), build(written(tmp_path), "ein Häuschen 🏠", str(own))):
        assert made.scribble == own.read_bytes()
        assert "invert" not in made.fields_of(0)
        assert made.fields_of(0)["prompt"] == "ein Häuschen 🏠"


def test_parts_missing_from_the_receipt_must_be_passed(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no prompt"):
        build(written(tmp_path, prompt=None))
    assert build(written(tmp_path, prompt=None), prompt="a house").fields_of(0)["prompt"] == "a house"
    with pytest.raises(UsageError, match="has no scribble, which was too big"):
        build(written(tmp_path, scribble_png=None))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "has no receipt"),
        ('{"made_by": "another tool"}', "has no receipt"),
        ("[1]", "has no receipt"),
        ('{"made_by": ', "damaged"),
        (json.dumps({**CONTENT, "receipt": 2}), "newer format"),
        (json.dumps({**CONTENT, "seed": "many"}), "damaged"),
        (json.dumps({**CONTENT, "scribble_png": "?"}), "damaged"),
        (json.dumps({"made_by": "fastapi-triton", "receipt": 1}), "damaged"),
    ],
)
@pytest.mark.parametrize("output_format", ["png", "webp", "jpeg"])
def test_a_file_without_a_valid_receipt_is_an_error(tmp_path: Path, text: str, words: str, output_format: str) -> None:
    with pytest.raises(UsageError, match=words):
        receipt.read(written(tmp_path, output_format, text))


def test_a_receipt_is_found_beside_megabytes_of_other_text(tmp_path: Path) -> None:
    file = written(tmp_path, "png")
    other = png_chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(3_000_000)))
    file.write_bytes(with_chunks(file.read_bytes(), *[other] * 30))
    assert receipt.read(file).fields()["seed"] == CONTENT["seed"]


def test_an_incomplete_or_invalid_picture_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "x.png"
    for content, words in (
        (b"", "not a PNG"),
        (b"hello", "not a PNG"),
        (written(tmp_path, "png").read_bytes()[:60], "damaged|no receipt"),
        (written(tmp_path, "webp").read_bytes()[:300], "damaged|no receipt|not a PNG"),
        (written(tmp_path, "jpeg").read_bytes()[:300], "damaged|no receipt|not a PNG"),
    ):
        file.write_bytes(content)
        with pytest.raises(UsageError, match=words):
            receipt.read(file)


@pytest.mark.parametrize(
    ("description", "words"),
    [
        (DESCRIPTION, []),
        ({**DESCRIPTION, "name": "sdxl"}, ["made with the checkpoint demo; this server has sdxl"]),
        ({**DESCRIPTION, "revision": "def"}, ["weights of demo have changed: abc then, def now"]),
        (
            {**DESCRIPTION, "engine": {**ENGINE, "version": "2", "device": "cuda"}},
            ["version 0.1.0 then, 2 now; device"],
        ),
        ({}, ["checkpoint", "engine"]),
    ],
)
def test_changes_since_the_receipt_are_listed(tmp_path: Path, description: dict[str, Any], words: list[str]) -> None:
    differences = receipt.read(written(tmp_path)).differences(description)
    assert len(differences) == len(words)
    assert all(part in sentence for part, sentence in zip(words, differences, strict=True))


def test_other_pictures_and_changed_loras_are_warned_of(tmp_path: Path) -> None:
    other = tmp_path / "other.png"
    other.write_bytes(picture())
    made = build(written(tmp_path, init_image_sha256="22"), init_image=str(other))
    report = RunReport()
    run = GenerateRun(made, report, ProgressDisplay(names_files=False, is_quiet=True))
    info = {"width": 128, "height": 128, "scribble": {"sha256": "11"}, "pixels_sha256": "01"}
    loras = [{"name": "ink", "scale": 0.8, "sha256": "55"}]
    run._compare(GeneratedPicture(b"", 7, info | {"init_image_sha256": "23", "loras": loras}), made.original)
    assert report.warnings == [
        "--init-image is another picture than the original one.",
        "The file of the LoRA ink has changed.",
        "Some pixels differ from the original picture.",
    ]
