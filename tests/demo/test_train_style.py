# SPDX-License-Identifier: Apache-2.0
"""The training of a style's LoRA changes no other weight, resumes, and writes a file that the engine loads."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from diffusion_engine.loras.files import examine
from safetensors.torch import load_file

from demo import batches, bundle, dataset, train_lora, train_style
from demo.latents import latents_path
from demo.networks import LATENT_CHANNELS, VAE_SCALE, build_vae
from demo.team import Team
from demo.vocabulary import train_tokenizer

if TYPE_CHECKING:
    from pathlib import Path

SECONDS = 0.4


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a training whose scenes are drawn and encoded."""
    monkeypatch.setattr(dataset, "LAYOUT", (((64, 64), 4),))
    monkeypatch.setattr(batches, "LAYOUT", dataset.LAYOUT)
    monkeypatch.setattr(train_lora, "BATCH", 2 * 64 * 64)
    monkeypatch.setattr(train_lora, "MEET_EVERY", 2)
    folder = dataset.style_folder(tmp_path, "neon")
    folder.mkdir()
    dataset.draw_shard(0, folder=folder, seed=1, style="neon")
    cells = 64 // VAE_SCALE
    np.save(latents_path(folder, 0), np.zeros((4, LATENT_CHANNELS, cells, cells), np.float16))
    return tmp_path


def test_trained_lora_fits_checkpoint_and_resumed_training_continues(work: Path, monkeypatch: pytest.MonkeyPatch):
    torch.manual_seed(0)
    networks = bundle.start(train_tokenizer(dataset.style_folder(work, "neon"), work / "tokenizer"))
    before = {name: value.clone() for name, value in networks.unet.state_dict().items()}
    monkeypatch.setattr(train_lora, "finished", lambda *_: networks)
    train_style.train_style(Team(0, 1), work, None, "neon", SECONDS / 60, 1, work / "loras")
    pipeline = bundle.pipeline(bundle.start(networks.tokenizer), build_vae())
    found = examine("neon", work / "loras" / "neon.safetensors", pipeline)
    assert (found.unusable, found.rank) == ("", train_style.RANK)
    after = {n.replace(".base_layer", ""): v for n, v in networks.unet.state_dict().items() if "lora" not in n}
    assert all((after[name] == value).all() for name, value in before.items())
    first = load_file(work / "loras" / "neon.safetensors")
    assert any(tensor.any() for name, tensor in first.items() if "lora_B" in name)
    state = torch.load(work / "lora-neon.pt", weights_only=False)
    networks.unet.delete_adapters("default")
    train_style.train_style(Team(0, 1), work, None, "neon", 0, 1, work / "again")  # its time is over at once
    again = load_file(work / "again" / "neon.safetensors")
    assert all(torch.equal(first[name], tensor) for name, tensor in again.items())
    networks.unet.delete_adapters("default")
    longer = (state["spent_s"] + SECONDS) / 60
    train_style.train_style(Team(0, 1), work, None, "neon", longer, 1, work / "loras")
    assert torch.load(work / "lora-neon.pt", weights_only=False)["step"] > state["step"]


def test_training_with_init_starts_from_the_lora_of_that_checkpoint(work: Path, monkeypatch: pytest.MonkeyPatch):
    networks = bundle.start(train_tokenizer(dataset.style_folder(work, "neon"), work / "tokenizer"))
    monkeypatch.setattr(train_lora, "finished", lambda *_: networks)
    train_style.train_style(Team(0, 1), work, None, "neon", SECONDS / 60, 1, work / "checkpoint" / "loras")
    networks.unet.delete_adapters("default")
    (work / "lora-neon.pt").unlink()
    train_style.train_style(Team(0, 1), work, work / "checkpoint", "neon", 0, 1, work / "loras")
    first, second = (load_file(work / where / "neon.safetensors") for where in ("checkpoint/loras", "loras"))
    assert any(tensor.any() for name, tensor in first.items() if "lora_B" in name)
    assert all(torch.equal(first[name], tensor) for name, tensor in second.items())
