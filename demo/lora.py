# SPDX-License-Identifier: Apache-2.0
"""A LoRA of the UNet: its layers, and its file, which the engine and diffusers load."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file
from torch import nn

from demo.weights import write_weights

if TYPE_CHECKING:
    from pathlib import Path

    from demo.bundle import Bundle

# Convolutions paint textures; the layers that read the prompt need no change for another style.
STYLE_LAYERS = (
    r"conv_in|conv_out|.*\.(conv1|conv2|proj_in|proj_out|attn1\.to_q|attn1\.to_k|attn1\.to_v|attn1\.to_out\.0"
    r"|ff\.net\.0\.proj|ff\.net\.2)"
)


def add_lora(bundle: Bundle, *, rank: int, layers: str) -> nn.ParameterList:
    """Add a LoRA to the layers whose name matches, and freeze everything else. Returns its parameters."""
    bundle.trained().requires_grad_(requires_grad=False)
    bundle.unet.add_adapter(LoraConfig(r=rank, lora_alpha=rank, target_modules=layers))
    return nn.ParameterList(p for p in bundle.unet.parameters() if p.requires_grad)


def load_lora(bundle: Bundle, path: Path) -> None:
    """Give the UNet's LoRA the weights of a file, which must have the same rank and layers."""
    tensors = {name.removeprefix("unet."): tensor.float() for name, tensor in load_file(path).items()}
    set_peft_model_state_dict(bundle.unet, tensors, adapter_name="default")


def save_lora(bundle: Bundle, path: Path, metadata: dict[str, str]) -> None:
    """Write the UNet's LoRA as fp16 safetensors, in PEFT's format. Its alpha is its rank, so its scale is 1."""
    tensors = get_peft_model_state_dict(bundle.unet, adapter_name="default")
    half = {f"unet.{name}": tensor.detach().to(torch.float16).contiguous() for name, tensor in tensors.items()}
    write_weights(half, path, **metadata)
