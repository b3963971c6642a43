# SPDX-License-Identifier: Apache-2.0
"""SDXL and its scribble ControlNet with random weights, made in seconds on their device and without a download."""

import json
import math
from collections.abc import Iterator
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

from benchmarks import VERSION_FOLDER
from benchmarks.engine.torch_device import computes_in_bfloat16

Architecture = dict[str, Any]  # network → its config

SDXL_CONFIG = VERSION_FOLDER / "diffusion_engine" / "sdxl_config"
ARCHITECTURE: Architecture = {file.parent.name: json.loads(file.read_text()) for file in SDXL_CONFIG.glob("*/*.json")}
# As in madebyollin/sdxl-vae-fp16-fix: SDXL's own VAE would be converted to float32.
ARCHITECTURE["vae"]["force_upcast"] = False
TOKENIZERS = VERSION_FOLDER / "demo_checkpoint"
NUM_DRAWN = 1 << 24  # random numbers, repeated through the weights: drawing four billion on a CPU would take minutes


def tiny_architecture() -> Architecture:
    """The same networks with few channels and layers, for tests on a CPU."""
    small = {"block_out_channels": [32, 64, 64], "attention_head_dim": [2, 4, 4], "layers_per_block": 1}
    small |= {"cross_attention_dim": 64, "addition_time_embed_dim": 8, "transformer_layers_per_block": [1, 1, 1]}
    small |= {"projection_class_embeddings_input_dim": 6 * 8 + 32}
    text = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2, "num_hidden_layers": 2}
    text |= {"projection_dim": 32}
    changes: Architecture = {
        "unet": small,
        "controlnet": {**small, "conditioning_embedding_out_channels": [8, 8, 16, 16]},
        "vae": {"block_out_channels": [16, 16, 32, 32], "layers_per_block": 1, "norm_num_groups": 8},
        "text_encoder": text,
        "text_encoder_2": text,
    }
    return {name: {**config, **changes.get(name, {})} for name, config in ARCHITECTURE.items()}


def make_pipeline(
    *,
    architecture: Architecture = ARCHITECTURE,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
) -> Any:
    """diffusers' pipeline with networks of random weights. The tokenizers are the demo checkpoint's.

    Args:
        dtype: None: bfloat16. On a processor without bfloat16 instructions, each layer's weights are then converted to
            float32 while that layer runs.
    """
    is_converted = dtype is None and not computes_in_bfloat16()
    stored = dtype or torch.bfloat16
    pieces = random_pieces(torch.device(device), stored)

    def network(of_class: Any, name: str) -> Any:
        with torch.device("meta"):
            made = of_class.from_config(architecture[name])
        filled(made, device, stored, pieces)
        if is_converted:
            convert_while_running(made)
        return made

    def text_encoder(of_class: Any, name: str) -> Any:
        with torch.device("meta"):
            made = of_class(CLIPTextConfig(**architecture[name]))
        filled(made, device, torch.float32 if is_converted else stored, pieces)
        for buffer_name, buffer in made.named_buffers():
            if buffer_name.endswith("position_ids"):
                buffer.copy_(torch.arange(buffer.shape[-1])[None])
        return made

    pipeline = StableDiffusionXLControlNetPipeline(
        vae=network(AutoencoderKL, "vae"),
        text_encoder=text_encoder(CLIPTextModel, "text_encoder"),
        text_encoder_2=text_encoder(CLIPTextModelWithProjection, "text_encoder_2"),
        tokenizer=PreTrainedTokenizerFast.from_pretrained(TOKENIZERS / "tokenizer"),
        tokenizer_2=PreTrainedTokenizerFast.from_pretrained(TOKENIZERS / "tokenizer_2"),
        unet=network(UNet2DConditionModel, "unet"),
        controlnet=network(ControlNetModel, "controlnet"),
        scheduler=EulerDiscreteScheduler.from_config(architecture["scheduler"]),
        add_watermarker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@torch.no_grad()
def filled(
    network: nn.Module, device: torch.device | str, dtype: torch.dtype, pieces: Iterator[torch.Tensor]
) -> nn.Module:
    """Random weights that keep the strength of the signal. Norms and biases are as before training."""
    nn.Module.to(network, dtype)  # diffusers' own `to` logs a warning
    network.to_empty(device=device).eval().requires_grad_(False)
    for name, parameter in network.named_parameters():
        if parameter.ndim < 2:
            parameter.fill_(1.0 if "norm" in name and name.endswith("weight") else 0.0)
            continue
        flat = parameter.view(-1)
        scale = 0.5 / math.sqrt(parameter[0].numel())
        for start in range(0, len(flat), NUM_DRAWN):
            part = flat[start : start + NUM_DRAWN]
            part.copy_(next(pieces)[: len(part)]).mul_(scale)
    return network


def random_pieces(device: torch.device, dtype: torch.dtype) -> Iterator[torch.Tensor]:
    """Copies of the same random numbers, without end."""
    generator = torch.Generator(device).manual_seed(0)
    numbers = torch.randn(NUM_DRAWN, generator=generator, device=device).to(dtype)
    while True:
        yield numbers


def convert_while_running(network: Any) -> None:
    network.enable_layerwise_casting(storage_dtype=torch.bfloat16, compute_dtype=torch.float32)
    for module in network.modules():
        if not hasattr(module, "_diffusers_hook"):  # the small weights of norms
            for parameter in module.parameters(recurse=False):
                parameter.data = parameter.data.float()
