# SPDX-License-Identifier: Apache-2.0
"""SDXL and its scribble ControlNet at full size with random weights, made in seconds and without a download.

Weights are kept in bfloat16. On a processor without bfloat16 instructions, each layer's weights are converted to
float32 while that layer runs.
"""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    EulerDiscreteScheduler,
    StableDiffusionXLControlNetPipeline,
    UNet2DConditionModel,
)
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, PreTrainedTokenizerFast

from benchmarks.engine.torch_device import computes_in_bfloat16

ARCHITECTURE: dict[str, Any] = json.loads((Path(__file__).parent / "architecture.json").read_text())


def make_pipeline(tokenizers: Path) -> Any:
    """diffusers' pipeline with networks of random weights. The tokenizers are the demo checkpoint's."""
    text_dtype = torch.bfloat16 if computes_in_bfloat16() else torch.float32
    pipeline = StableDiffusionXLControlNetPipeline(
        vae=diffusers_network(AutoencoderKL, "vae"),
        text_encoder=text_encoder(CLIPTextModel, "text_encoder", text_dtype),
        text_encoder_2=text_encoder(CLIPTextModelWithProjection, "text_encoder_2", text_dtype),
        tokenizer=PreTrainedTokenizerFast.from_pretrained(tokenizers / "tokenizer"),
        tokenizer_2=PreTrainedTokenizerFast.from_pretrained(tokenizers / "tokenizer_2"),
        unet=diffusers_network(UNet2DConditionModel, "unet"),
        controlnet=diffusers_network(ControlNetModel, "controlnet"),
        scheduler=EulerDiscreteScheduler.from_config(ARCHITECTURE["scheduler"]),
        add_watermarker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def diffusers_network(of_class: Any, name: str) -> Any:
    with torch.device("meta"):
        network = of_class.from_config(ARCHITECTURE[name])
    network = network.to(torch.bfloat16).to_empty(device="cpu").eval().requires_grad_(False)
    fill(network)
    if not computes_in_bfloat16():
        network.enable_layerwise_casting(storage_dtype=torch.bfloat16, compute_dtype=torch.float32)
        for module in network.modules():
            if not hasattr(module, "_diffusers_hook"):  # the small weights of norms
                for parameter in module.parameters(recurse=False):
                    parameter.data = parameter.data.float()
    return network


def text_encoder(of_class: Any, name: str, dtype: torch.dtype) -> Any:
    with torch.device("meta"):
        network = of_class(CLIPTextConfig(**ARCHITECTURE[name]))
    network = network.to(dtype).to_empty(device="cpu").eval().requires_grad_(False)
    fill(network)
    for buffer_name, buffer in network.named_buffers():
        if buffer_name.endswith("position_ids"):
            buffer.copy_(torch.arange(buffer.shape[-1])[None])
    return network


@torch.no_grad()
def fill(network: nn.Module) -> None:
    """Random weights that keep the strength of the signal. Norms and biases are as before training."""
    pieces = random_pieces()
    for name, parameter in network.named_parameters():
        if parameter.ndim < 2:
            parameter.fill_(1.0 if "norm" in name and name.endswith("weight") else 0.0)
            continue
        flat = parameter.view(-1)
        scale = 0.5 / math.sqrt(parameter[0].numel())
        for start in range(0, len(flat), 1 << 24):
            part = flat[start : start + (1 << 24)]
            part.copy_(next(pieces)[: len(part)]).mul_(scale)


def random_pieces() -> Iterator[torch.Tensor]:
    """Repeated copies of the same random numbers: drawing four billion would take minutes, copying takes seconds."""
    numbers = torch.randn(1 << 24, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    while True:
        yield numbers
