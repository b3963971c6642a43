# SPDX-License-Identifier: Apache-2.0
"""The receipt in the picture file: its contents, repeating a picture from it, and omitting it."""

import base64
import hashlib
import io
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from diffusion_engine.capabilities import Capabilities
from diffusion_engine.pictures import encode_picture
from diffusion_engine.receipt import MAX_BYTES, ReceiptWriter, SeenScribble
from diffusion_engine.request_parser import parse_request
from diffusion_engine.request_state import BatchKey, GeneratedPicture, NullListener, RequestState
from diffusion_engine.scribble import read_scribble
from drawings import CHECKPOINT, SCRIBBLES, circle, row
from PIL import ExifTags, Image

Generate = Callable[..., GeneratedPicture]
FORMATS = ("png", "webp", "jpeg")
USED = (
    "prompt", "negative_prompt", "conditioning_scale", "seed", "num_inference_steps", "guidance_scale",
    "control_guidance_start", "control_guidance_end", "width", "height", "scheduler", "output_format", "output_quality",
)  # fmt: skip


def text_in(file: bytes) -> str:
    """The receipt in a picture file, read with Pillow alone."""
    picture = Image.open(io.BytesIO(file))
    if picture.format == "PNG":
        return str(picture.info["fastapi-triton"])
    comment = picture.getexif().get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment]
    assert comment.startswith(b"ASCII\0\0\0")
    return str(comment[8:].decode("ascii"))


def has_receipt(file: bytes) -> bool:
    picture = Image.open(io.BytesIO(file))
    return "fastapi-triton" in picture.info or bool(picture.getexif())


@pytest.mark.parametrize("output_format", FORMATS)
def test_receipt_repeats_the_picture_byte_for_byte(generate: Generate, output_format: str) -> None:
    made = generate(
        prompt="ein rotes Häuschen 🏠".encode(),
        negative_prompt=b"blue",
        guidance_scale=3.5,
        control_guidance_end=0.75,
        scheduler=b"euler_ancestral",
        output_format=output_format.encode(),
        seed=-1,
    )
    receipt = json.loads(text_in(made.content))
    assert (receipt["made_by"], receipt["prompt"]) == ("fastapi-triton", "ein rotes Häuschen 🏠")
    assert receipt["seed"] == made.seed
    values = {name: receipt[name].encode() if isinstance(receipt[name], str) else receipt[name] for name in USED}
    again = generate(**values, image=base64.b64decode(receipt["scribble_png"]), invert=b"no")
    assert again.content == made.content
    assert again.info["scribble"]["sha256"] == receipt["scribble_sha256"]


def test_hash_is_of_the_pixels(generate: Generate) -> None:
    made = generate(output_format=b"png")
    picture = Image.open(io.BytesIO(made.content))
    expected = hashlib.sha256(f"{picture.width}x{picture.height}:".encode() + picture.tobytes()).hexdigest()
    assert made.info["pixels_sha256"] == json.loads(text_in(made.content))["pixels_sha256"] == expected
    assert generate(output_format=b"jpeg").info["pixels_sha256"] == expected
    assert generate(seed=2).info["pixels_sha256"] != expected


@pytest.mark.parametrize("output_format", FORMATS)
def test_receipt_does_not_change_the_pixels_and_can_be_omitted(generate: Generate, output_format: str) -> None:
    full, bare = (
        generate(output_format=output_format.encode(), receipt=receipt).content for receipt in (b"full", b"none")
    )
    assert not has_receipt(bare)
    assert len(full) - len(bare) < 2000
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(full))), np.asarray(Image.open(io.BytesIO(bare))))


def test_no_prompt_omits_only_the_prompts(generate: Generate) -> None:
    made = generate(receipt=b"no_prompt", negative_prompt=b"secret")
    receipt = json.loads(text_in(made.content))
    assert receipt["seed"] == 1
    for each in (receipt, made.info):
        assert not {"prompt", "negative_prompt"} & each.keys()
        assert "secret" not in json.dumps(each)
    assert generate(negative_prompt=b"fog").info["negative_prompt"] == "fog"


def test_operator_can_omit_receipts_by_default(capabilities: Capabilities) -> None:
    private = Capabilities.of_checkpoint(str(CHECKPOINT), defaults={"receipt": "none"})
    assert parse_request(row(), private).receipt == "none"
    assert parse_request(row(receipt=b"full"), private).receipt == "full"
    assert parse_request(row(), capabilities).receipt == "full"
    with pytest.raises(ValueError, match="full, no_prompt, none"):
        Capabilities.of_checkpoint(str(CHECKPOINT), defaults={"receipt": "off"})


def test_receipt_without_scribble_has_none(generate: Generate) -> None:
    receipt = json.loads(text_in(base64.b64decode(generate(image=None).content)))
    assert receipt["seed"] == 1
    assert not any(name.startswith("scribble") for name in receipt)


@pytest.mark.parametrize("output_format", FORMATS)
def test_file_with_the_largest_receipt_opens(capabilities: Capabilities, output_format: str) -> None:
    longest = "🏠" * capabilities.limits.max_prompt_characters
    busy = Image.fromarray(np.random.default_rng(0).integers(0, 2, (1024, 1024)).astype(np.uint8) * 255)
    for prompt, scribble, left in ((longest, None, ()), ("a house", busy, ("prompt",)), (longest, busy, ())):
        request = parse_request(row(prompt=prompt.encode(), negative_prompt=prompt.encode()), capabilities)
        state = RequestState(request=request, key=BatchKey(64, 64), listener=NullListener(), arrived=0.0)
        state.seen_scribble = SeenScribble.of(scribble) if scribble else None
        text = ReceiptWriter(capabilities, {}).text(state)
        assert len(text) <= MAX_BYTES
        assert text_in(encode_picture(circle(), output_format=output_format, output_quality=90, receipt=text)) == text
        receipt = json.loads(text)
        assert receipt["seed"] == 1
        assert [name for name in ("prompt", "scribble_png") if name in receipt] == list(left)
        assert ("scribble_sha256" in receipt) == (scribble is not None)


@pytest.mark.parametrize("name", ["black-on-white.png", "phone-photo-with-shadow.jpg", "thin-lines-4000px.png"])
@pytest.mark.parametrize("size", [(128, 128), (1216, 832)])
def test_recorded_scribble_gives_the_same_strokes(name: str, size: tuple[int, int]) -> None:
    control = read_scribble((SCRIBBLES / name).read_bytes(), max_pixels=50_000_000).fit(*size)
    seen = SeenScribble.of(control)
    again = read_scribble(seen.png, max_pixels=50_000_000, invert="no").fit(*size)
    assert np.array_equal(np.asarray(again), np.asarray(control))
    assert SeenScribble.of(again).sha256 == seen.sha256


def test_recorded_scribble_with_strokes_on_the_border_gives_the_same_strokes() -> None:
    control = Image.fromarray(np.random.default_rng(0).integers(0, 2, (96, 96)).astype(np.uint8) * 255).convert("RGB")
    again = read_scribble(SeenScribble.of(control).png, max_pixels=50_000_000, invert="no").fit(96, 96)
    assert np.array_equal(np.asarray(again), np.asarray(control))


def test_other_weights_have_another_revision(pipeline: Any) -> None:
    import torch
    from diffusion_engine.weights import revision_of

    before = revision_of(pipeline)
    assert len(before) == 16
    bias = next(pipeline.controlnet.parameters())
    with torch.no_grad():
        bias += 1
        assert revision_of(pipeline) != before
        bias -= 1
