# SPDX-License-Identifier: Apache-2.0
"""Compute the memory that SDXL with its scribble ControlNet needs in fp16 or bf16, without loading weights."""

from collections.abc import Callable
from typing import Any

import torch
from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel
from diffusion_engine.memory_estimate import decode_bytes, pass_bytes, weight_bytes
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from benchmarks.engine.random_weights import ARCHITECTURE

SIZES = ((1024, 1024), (1216, 832), (1344, 768), (768, 768), (512, 512))
ROWS = (2, 4, 8, 16)
GIB = 1024**3
DTYPE = torch.float16


def empty_network(of_class: Any, name: str) -> Any:
    config = ARCHITECTURE[name]
    with torch.device("meta"):
        network = of_class(CLIPTextConfig(**config)) if name.startswith("text") else of_class.from_config(config)
    return network.to(DTYPE).eval()


def table(report: Callable[[str], None] = lambda _: None) -> list[str]:
    """The weights, then a Markdown table: by picture size, a pass by its rows, and one decoding."""
    controlnet = empty_network(ControlNetModel, "controlnet")
    networks = {
        "UNet": empty_network(UNet2DConditionModel, "unet"),
        "ControlNet": controlnet,
        "text encoder": empty_network(CLIPTextModel, "text_encoder"),
        "text encoder 2": empty_network(CLIPTextModelWithProjection, "text_encoder_2"),
        "VAE": empty_network(AutoencoderKL, "vae"),
    }
    parts = {name: weight_bytes(network) / GIB for name, network in networks.items()}
    weights = sum(parts.values())
    listed = ", ".join(f"{name} {part:.2f}" for name, part in parts.items())
    lines = [
        f"Weights {weights:.2f} GiB: {listed}.",
        "",
        "| size | " + " | ".join(f"{count} rows" for count in ROWS) + " | decoding | total, 2 rows |",
        "| --- |" + " ---: |" * (len(ROWS) + 2),
    ]
    for size in SIZES:
        passes = [pass_bytes(networks["UNet"], controlnet, size, count, scale_factor=8) / GIB for count in ROWS]
        decoding = decode_bytes(networks["VAE"], size, scale_factor=8) / GIB
        total = weights + max(passes[0], decoding)
        figures = " | ".join(f"{each:.2f}" for each in [*passes, decoding, total])
        lines.append(f"| {size[0]}x{size[1]} | {figures} |")
        report(lines[-1])
    return lines
