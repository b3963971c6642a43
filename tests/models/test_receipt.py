# SPDX-License-Identifier: Apache-2.0
"""The receipt in the picture file: what it says, that it makes the picture again, and how it is left out."""

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
    """The receipt as any program finds it."""
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
def test_a_picture_carries_what_makes_it_again_byte_for_byte(generate: Generate, output_format: str) -> None:
    made = generate(
        prompt="ein rotes Häuschen 🏠".encode(),
        negative_prompt=b"blue",
        guidance_scale=3.5,
        control_guidance_end=0.75,
        scheduler=b"euler_ancestral",
        output_format=output_format.encode(),
        seed=-1,
    )
    told = json.loads(text_in(made.content))
    assert (told["made_by"], told["prompt"]) == ("fastapi-triton", "ein rotes Häuschen 🏠")
    assert told["seed"] == made.seed
    values = {name: told[name].encode() if isinstance(told[name], str) else told[name] for name in USED}
    again = generate(**values, image=base64.b64decode(told["scribble_png"]), invert=b"no")
    assert again.content == made.content
    assert again.info["scribble"]["sha256"] == told["scribble_sha256"]


def test_the_hash_is_that_of_the_pixels(generate: Generate) -> None:
    made = generate(output_format=b"png")
    picture = Image.open(io.BytesIO(made.content))
    expected = hashlib.sha256(f"{picture.width}x{picture.height}:".encode() + picture.tobytes()).hexdigest()
    assert made.info["pixels_sha256"] == json.loads(text_in(made.content))["pixels_sha256"] == expected
    assert generate(output_format=b"jpeg").info["pixels_sha256"] == expected
    assert generate(seed=2).info["pixels_sha256"] != expected


@pytest.mark.parametrize("output_format", FORMATS)
def test_the_receipt_leaves_the_pixels_alone_and_can_be_left_out(generate: Generate, output_format: str) -> None:
    full, bare = (
        generate(output_format=output_format.encode(), receipt=receipt).content for receipt in (b"full", b"none")
    )
    assert not has_receipt(bare)
    assert len(full) - len(bare) < 2000
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(full))), np.asarray(Image.open(io.BytesIO(bare))))


def test_the_prompts_alone_can_be_left_out(generate: Generate) -> None:
    made = generate(receipt=b"no_prompt", negative_prompt=b"secret")
    told = json.loads(text_in(made.content))
    assert told["seed"] == 1
    for each in (told, made.info):
        assert not {"prompt", "negative_prompt"} & each.keys()
        assert "secret" not in json.dumps(each)
    assert generate(negative_prompt=b"fog").info["negative_prompt"] == "fog"


def test_an_operator_may_leave_it_out_for_all_who_do_not_ask_for_it(capabilities: Capabilities) -> None:
    private = Capabilities.of_checkpoint(str(CHECKPOINT), defaults={"receipt": "none"})
    assert parse_request(row(), private).receipt == "none"
    assert parse_request(row(receipt=b"full"), private).receipt == "full"
    assert parse_request(row(), capabilities).receipt == "full"
    with pytest.raises(ValueError, match="full, no_prompt, none"):
        Capabilities.of_checkpoint(str(CHECKPOINT), defaults={"receipt": "off"})


def test_without_a_scribble_there_is_none_in_it(generate: Generate) -> None:
    told = json.loads(text_in(base64.b64decode(generate(image=None).content)))
    assert told["seed"] == 1
    assert not any(name.startswith("scribble") for name in told)


@pytest.mark.parametrize("output_format", FORMATS)
def test_the_longest_prompts_and_the_busiest_scribble_leave_a_file_that_opens(
    capabilities: Capabilities, output_format: str
) -> None:
    longest = "🏠" * capabilities.limits.max_prompt_characters
    busy = Image.fromarray(np.random.default_rng(0).integers(0, 2, (1024, 1024)).astype(np.uint8) * 255)
    for prompt, scribble, left in ((longest, None, ()), ("a house", busy, ("prompt",)), (longest, busy, ())):
        request = parse_request(row(prompt=prompt.encode(), negative_prompt=prompt.encode()), capabilities)
        state = RequestState(request=request, key=BatchKey(64, 64), listener=NullListener(), arrived=0.0)
        state.seen_scribble = SeenScribble.of(scribble) if scribble else None
        text = ReceiptWriter(capabilities, {}).text(state)
        assert len(text) <= MAX_BYTES
        assert text_in(encode_picture(circle(), output_format=output_format, output_quality=90, receipt=text)) == text
        told = json.loads(text)
        assert told["seed"] == 1
        assert [name for name in ("prompt", "scribble_png") if name in told] == list(left)
        assert ("scribble_sha256" in told) == (scribble is not None)


@pytest.mark.parametrize("name", ["black-on-white.png", "phone-photo-with-shadow.jpg", "thin-lines-4000px.png"])
@pytest.mark.parametrize("size", [(128, 128), (1216, 832)])
def test_a_scribble_as_it_was_seen_is_seen_so_again(name: str, size: tuple[int, int]) -> None:
    control = read_scribble((SCRIBBLES / name).read_bytes(), max_pixels=50_000_000).fit(*size)
    seen = SeenScribble.of(control)
    again = read_scribble(seen.png, max_pixels=50_000_000, invert="no").fit(*size)
    assert np.array_equal(np.asarray(again), np.asarray(control))
    assert SeenScribble.of(again).sha256 == seen.sha256


def test_strokes_on_the_border_do_not_change_what_is_seen() -> None:
    control = Image.fromarray(np.random.default_rng(0).integers(0, 2, (96, 96)).astype(np.uint8) * 255).convert("RGB")
    again = read_scribble(SeenScribble.of(control).png, max_pixels=50_000_000, invert="no").fit(96, 96)
    assert np.array_equal(np.asarray(again), np.asarray(control))


def test_other_weights_are_another_revision(pipeline: Any) -> None:
    import torch
    from diffusion_engine.weights import revision_of

    before = revision_of(pipeline)
    assert len(before) == 16
    bias = next(pipeline.controlnet.parameters())
    with torch.no_grad():
        bias += 1
        assert revision_of(pipeline) != before
        bias -= 1
