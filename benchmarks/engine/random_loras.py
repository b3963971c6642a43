# SPDX-License-Identifier: Apache-2.0
"""LoRAs with random weights for the attention of a UNet."""

from pathlib import Path

import torch
from diffusion_engine.weights import load_pipeline
from safetensors.torch import save_file

from benchmarks.engine.stock_pipeline import Weights

LAYERS = ("to_q", "to_k", "to_v", "to_out.0")
RANK = 8


def write_loras(folder: str, weights: Weights, *, count: int) -> list[str]:
    """Write the files, in the format of PEFT. Returns their names."""
    unet = load_pipeline(weights.config(device="cpu")).unet
    names = [f"random-{number}" for number in range(count)]
    for number, name in enumerate(names):
        generator = torch.Generator().manual_seed(number)
        tensors = {}
        for layer, module in unet.named_modules():
            if layer.endswith(LAYERS):
                num_out, num_in = module.weight.shape
                tensors[f"unet.{layer}.lora_A.weight"] = torch.randn(RANK, num_in, generator=generator) / num_in**0.5
                tensors[f"unet.{layer}.lora_B.weight"] = torch.randn(num_out, RANK, generator=generator) / 100
        save_file(tensors, Path(folder) / f"{name}.safetensors")
    return names
