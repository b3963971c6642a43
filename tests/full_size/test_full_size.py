# SPDX-License-Identifier: Apache-2.0
"""The engine with the real architecture of SDXL and its scribble ControlNet: 15 GB, many minutes."""

import base64
import io
import time
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from benchmarks.engine.job import scribble_file
from full_size.conftest import FullSize, peak_gb
from full_size.listener import Listener

if TYPE_CHECKING:
    from diffusion_engine.request_state import RequestState
from diffusion_engine.text_encoder import TextKey

pytestmark = [pytest.mark.full_size, pytest.mark.timeout(3600)]


def submit(full_size: FullSize, **values: Any) -> tuple["RequestState", Listener]:
    from diffusion_engine.request_parser import parse_request

    row = {"prompt": b"a red circle", "image": scribble_file(0), "seed": 1, "output_format": b"png", **values}
    listener = Listener()
    request = parse_request(row, full_size.capabilities)
    return full_size.engine.submit(request, listener, preview_every=1), listener


def generation_of_size(full_size: FullSize, width: int, height: int, *, guidance_scale: float) -> "RequestState":
    from diffusion_engine.request_parser import parse_request
    from diffusion_engine.request_state import BatchKey, RequestState

    values = {"prompt": b"a boat", "width": width, "height": height, "guidance_scale": guidance_scale, "seed": 1}
    image = Image.new("RGB", (width, height))
    return RequestState(
        request=parse_request(values, full_size.capabilities),
        listener=Listener(),
        arrived=0.0,
        key=BatchKey(width, height),
        control_image=image,
    )


def num_parameters(network: Any) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_networks_have_as_many_parameters_as_the_published_ones(full_size: FullSize) -> None:
    pipeline = full_size.networks.pipeline
    sizes = {
        "unet": 2_567_463_684,
        "text_encoder": 123_060_480,
        "text_encoder_2": 694_659_840,
        "vae": 83_653_863,
    }
    assert {name: num_parameters(getattr(pipeline, name)) for name in sizes} == sizes
    num_controlnet = num_parameters(pipeline.controlnet)
    assert 1.24e9 < num_controlnet < 1.26e9
    for name in (*sizes, "controlnet"):
        full_size.facts[f"parameters of {name}"] = f"{num_parameters(getattr(pipeline, name)) / 1e9:.3f} billion"


def test_scales_of_the_vae_are_from_its_config(full_size: FullSize) -> None:
    assert full_size.networks.vae_scale_factor == 8
    assert full_size.networks.vae.config.scaling_factor == 0.13025


def test_text_embedding_has_the_outputs_of_both_encoders(full_size: FullSize) -> None:
    started = time.monotonic()
    embedding = full_size.engine.encoder.text_encoder.text(TextKey("a lighthouse on a rock"))
    full_size.facts["one text, both encoders"] = f"{time.monotonic() - started:.1f} s"
    assert embedding.tokens.shape == (1, 77, 2048)
    assert embedding.pooled.shape == (1, 1280)


@pytest.mark.parametrize(("width", "height"), [(1024, 1024), (1216, 832), (640, 1536)])
def test_time_ids_have_the_height_first_for_every_shape(full_size: FullSize, width: int, height: int) -> None:
    encoded = full_size.engine.encoder.encode(generation_of_size(full_size, width, height, guidance_scale=5.0))
    assert encoded.time_ids.tolist() == [[height, width, 0, 0, height, width]]
    assert encoded.latents.shape == (1, 4, height // 8, width // 8)
    assert [row[0].tokens.shape for row in encoded.texts] == 2 * [(1, 77, 2048)]
    assert encoded.control.shape == (1, 320, height // 8, width // 8)


def test_requests_at_different_steps_share_passes_and_get_previews_and_pictures(full_size: FullSize) -> None:
    started = time.monotonic()
    side = full_size.small_side
    size = {"width": side, "height": side}
    submitted = [
        submit(full_size, num_inference_steps=2, guidance_scale=5.0, **size),
        submit(full_size, num_inference_steps=1, guidance_scale=1.0, scheduler=b"lcm", conditioning_scale=0.7, **size),
    ]
    pictures = [listener.picture() for _, listener in submitted]
    full_size.facts[f"two pictures at {side}x{side} together: 2 steps guided, 1 step not"] = (
        f"{time.monotonic() - started:.0f} s"
    )
    for picture in pictures:
        assert Image.open(io.BytesIO(picture.content)).size == (side, side)
    previews = submitted[0][1].previews
    assert len(previews) == 1
    assert Image.open(io.BytesIO(previews[0])).size == (side // 8, side // 8)


def test_full_size_picture_is_made(full_size: FullSize) -> None:
    width, height = full_size.large
    started = time.monotonic()
    values = {"width": width, "height": height, "num_inference_steps": 1, "guidance_scale": 1.0}
    state, listener = submit(full_size, **values)
    picture = listener.picture()
    took = {name: state.timings[name] for name in ("encode", "denoise", "decode")}
    timings = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in took.items())
    full_size.facts[f"one picture at {width}x{height}: 1 step, not guided"] = (
        f"{time.monotonic() - started:.0f} s ({timings})"
    )
    assert Image.open(io.BytesIO(picture.content)).size == (width, height)
    assert base64.b64encode(picture.content)


def test_all_tests_fit_into_20_gb(full_size: FullSize) -> None:
    assert full_size.facts
    assert peak_gb() < 20
