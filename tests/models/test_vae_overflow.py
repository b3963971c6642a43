# SPDX-License-Identifier: Apache-2.0
"""A VAE that overflows: reported as the cause, or run in float32 if its config sets `force_upcast`."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from diffusion_engine.config import EngineConfig
from diffusion_engine.engine import Engine
from diffusion_engine.engine_builder import warm_up
from diffusion_engine.errors import RequestError
from diffusion_engine.networks import Networks
from diffusion_engine.vae_decoder import VAEDecoder
from diffusion_engine.weights import choose_vae_dtype, load_pipeline
from drawings import CHECKPOINT


def with_large_activations(config: EngineConfig) -> Any:
    """A pipeline whose VAE overflows only in float16, like SDXL's own."""
    pipeline = load_pipeline(config)
    for parameter in pipeline.vae.decoder.conv_in.parameters():
        parameter.data = (parameter.float() * 30_000).to(parameter.dtype)
    return pipeline


def latents_of(pipeline: Any) -> torch.Tensor:
    """The same latents each time, (1, C, 12, 12)."""
    return torch.randn(1, pipeline.vae.config.latent_channels, 12, 12, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("dtype", "says"), [("float16", "overflows in float16"), ("float32", "not finite in float32")])
def test_vae_overflow_is_reported_as_the_cause(dtype: str, says: str) -> None:
    config = EngineConfig(checkpoint=str(CHECKPOINT), device="cpu", dtype=dtype)
    pipeline = with_large_activations(config)
    if dtype == "float32":
        pipeline.vae.decoder.conv_in.weight.data.fill_(torch.inf)
    decoder = VAEDecoder(Networks.of_pipeline(pipeline))
    with pytest.raises(RequestError, match=says) as caught:
        decoder.decode(latents_of(pipeline))
    assert caught.value.code == "vae_overflow"
    assert "another `seed`" not in caught.value.detail


def test_vae_with_force_upcast_runs_in_float32_beside_float16_networks(tmp_path: Path) -> None:
    """Its picture is the same as beside float32 networks."""
    shutil.copytree(CHECKPOINT, tmp_path, dirs_exist_ok=True)
    file = tmp_path / "vae" / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "force_upcast": True}))
    pictures = []
    for dtype in ("float16", "float32"):
        pipeline = with_large_activations(EngineConfig(checkpoint=str(tmp_path), device="cpu", dtype=dtype))
        assert str(pipeline.unet.dtype) == f"torch.{dtype}"
        assert pipeline.vae.dtype is torch.float32
        pictures.append(VAEDecoder(Networks.of_pipeline(pipeline)).decode(latents_of(pipeline).to(pipeline.unet.dtype)))
    assert np.abs(pictures[0].astype(int) - pictures[1]).max() <= 2  # the latents were rounded to float16


def test_vae_in_bfloat16_does_not_overflow_beside_float16_networks() -> None:
    """Its exponent has the range of float32. Rounding changes colours a little."""
    pictures = []
    for vae_dtype in ("bfloat16", "float32"):
        config = EngineConfig(checkpoint=str(CHECKPOINT), device="cpu", dtype="float16", vae_dtype=vae_dtype)
        pipeline = with_large_activations(config)
        assert (str(pipeline.unet.dtype), str(pipeline.vae.dtype)) == ("torch.float16", f"torch.{vae_dtype}")
        pictures.append(VAEDecoder(Networks.of_pipeline(pipeline)).decode(latents_of(pipeline).half()).astype(int))
    difference = np.abs(pictures[0] - pictures[1])
    assert (difference.max(), difference.mean()) <= (8, 1)


def test_bfloat16_is_refused_if_the_gpu_only_emulates_it(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu, vae = torch.device("cuda", 0), SimpleNamespace(dtype=torch.float16)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (8, 6))
    assert choose_vae_dtype("bfloat16", vae, gpu) is torch.bfloat16
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 5))
    with pytest.raises(ValueError, match="can only emulate"):
        choose_vae_dtype("bfloat16", vae, gpu)


def test_latents_that_are_not_finite_are_not_reported_as_vae_overflow(networks: Networks) -> None:
    with pytest.raises(RequestError, match="Try another `seed`") as caught:
        VAEDecoder(networks).decode(torch.full((1, 4, 12, 12), torch.nan))
    assert caught.value.code == "generation_failed"


def test_vae_that_cannot_encode_in_its_dtype_gives_grey_previews() -> None:
    pipeline = load_pipeline(EngineConfig(checkpoint=str(CHECKPOINT), device="cpu"))
    pipeline.vae.encoder.conv_in.weight.data.fill_(torch.nan)
    (preview,) = VAEDecoder(Networks.of_pipeline(pipeline)).previews([torch.zeros(1, 4, 12, 12)])
    assert set(preview().ravel().tolist()) == {127}


def test_checkpoint_whose_vae_cannot_decode_does_not_load(make_engine: Callable[..., Engine]) -> None:
    pipeline = load_pipeline(EngineConfig(checkpoint=str(CHECKPOINT), device="cpu"))
    pipeline.vae.decoder.conv_in.weight.data.fill_(torch.nan)
    with pytest.raises(RequestError, match="Its weights may be damaged"):
        warm_up(make_engine(networks=Networks.of_pipeline(pipeline)))
