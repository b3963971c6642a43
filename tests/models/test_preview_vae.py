# SPDX-License-Identifier: Apache-2.0
"""Full-size previews by a configured tiny VAE; here with random weights."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderTiny
from diffusion_engine.config import EngineConfig
from diffusion_engine.engine_builder import build_engine
from diffusion_engine.networks import Networks
from drawings import CHECKPOINT
from listening import Driver, Submitted
from PIL import Image

MakeDriver = Callable[..., Driver]
WIDE = {"width": 160, "height": 96, "num_inference_steps": 3}


def tiny_vae(folder: Path, *, latent_channels: int = 4) -> str:
    """A tiny VAE in diffusers' format, with the demo's latent cells of four pixels."""
    torch.manual_seed(0)
    vae = AutoencoderTiny(
        encoder_block_out_channels=(8, 8, 8),
        decoder_block_out_channels=(8, 8, 8),
        num_encoder_blocks=(1, 1, 1),
        num_decoder_blocks=(1, 1, 1),
        latent_channels=latent_channels,
    )
    vae.save_pretrained(folder)
    return str(folder)


def config(folder: str) -> EngineConfig:
    return EngineConfig(checkpoint=str(CHECKPOINT), device="cpu", max_rows=4, is_traced=False, preview_vae=folder)


def shown(one: Submitted) -> list[Image.Image]:
    one.picture()  # the last event
    return [Image.open(io.BytesIO(each)) for _, each in sorted(one.recorder.previews.items())]


def test_previews_are_made_by_the_tiny_vae_and_the_picture_is_unchanged(
    tmp_path: Path, driver: Driver, networks: Networks, make_driver: MakeDriver
) -> None:
    plain = driver.join(**WIDE, preview_every=1)
    driver.finish()
    engine = build_engine(config(tiny_vae(tmp_path)))
    other = Driver(engine)
    try:
        tiny = other.join(**WIDE, preview_every=1)
        other.step()
        clean = tiny.state.encoded.predicted_clean
        expected = AutoencoderTiny.from_pretrained(tmp_path).decode(clean.clone()).sample[0]
        other.finish()
        assert [each.size for each in shown(plain)] == [(40, 24)] * 2
        assert [each.size for each in shown(tiny)] == [(160, 96)] * 2
        levels = (expected.detach() / 2 + 0.5).clamp(0, 1).mul(255).permute(1, 2, 0).numpy()
        # WebP changes the noise of random weights a little.
        assert np.abs(np.asarray(shown(tiny)[0], dtype=float) - levels).mean() < 8
        assert np.abs(tiny.pixels() - plain.pixels()).max() <= 1
    finally:
        other.stop()


def test_tiny_vae_for_other_latents_fails_when_the_model_loads(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"16 channels; this checkpoint's have 4\. .* madebyollin/taesdxl"):
        build_engine(config(tiny_vae(tmp_path, latent_channels=16)))


def test_preview_vae_is_a_parameter_of_the_model(tmp_path: Path) -> None:
    folder = tiny_vae(tmp_path / "tiny")
    read = EngineConfig.read({}, {"SDXL_PREVIEW_VAE": folder, "SDXL_CHECKPOINT": "owner/name"}, version_folder=tmp_path)
    assert read.preview_vae == str(Path(folder).resolve())
    beside_the_model = {"preview_vae": "tiny", "checkpoint": "owner/name"}
    assert EngineConfig.read(beside_the_model, {}, version_folder=tmp_path) == read
