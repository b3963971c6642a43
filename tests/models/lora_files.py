# SPDX-License-Identifier: Apache-2.0
"""Small LoRA files with random weights for the demo checkpoint, in the formats of PEFT, diffusers and kohya."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
MORE_LINEAR = (*ATTENTION, "proj", "ff.net.2", "proj_in", "proj_out", "time_emb_proj", "linear_1")
CONVOLUTIONS = ("conv1", "conv2", "conv_shortcut", "conv", "conv_in", "conv_out")
TEXT = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")
Tensors = dict[str, torch.Tensor]


def random_changes(network: nn.Module, suffixes: tuple[str, ...], *, rank: int, seed: int, size: float) -> Tensors:
    """Matrices of all layers whose name has one of the suffixes: `{layer}.lora_A.weight` and `{layer}.lora_B.weight`.

    Args:
        size: of the change, as a part of the layer's weight.
    """
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, layer in network.named_modules():
        if not isinstance(layer, nn.Linear | nn.Conv2d) or not f".{name}".endswith(
            tuple(f".{each}" for each in suffixes)
        ):
            continue
        shape = layer.weight.shape
        down = torch.randn(rank, *shape[1:], generator=generator)
        up = torch.randn(shape[0], rank, *[1] * (len(shape) - 2), generator=generator)
        factor = size * float(layer.weight.detach().norm() / (up.flatten(1) @ down.flatten(1)).norm())
        tensors[f"{name}.lora_A.weight"] = down
        tensors[f"{name}.lora_B.weight"] = up * factor
    return tensors


def prefixed(tensors: Tensors, prefix: str) -> Tensors:
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def save_peft(path: Path, tensors: Tensors, settings: dict[str, Any] | None = None) -> None:
    """Names such as `unet.{layer}.lora_A.weight`; with the settings of PEFT, such as `unet.lora_alpha`."""
    save_file(tensors, path, metadata={"lora_adapter_metadata": json.dumps(settings)} if settings else None)


def save_diffusers(path: Path, tensors: Tensors) -> None:
    """Names such as `unet.{layer}.lora.down.weight`."""
    save_file(
        {name.replace("lora_A", "lora.down").replace("lora_B", "lora.up"): each for name, each in tensors.items()}, path
    )


def save_kohya(path: Path, tensors: Tensors, *, alpha: float, metadata: dict[str, str] | None = None) -> None:
    """Names such as `lora_unet_{layer_with_underscores}.lora_down.weight`, each layer with its alpha."""
    prefixes = {"unet": "lora_unet", "text_encoder": "lora_te1", "text_encoder_2": "lora_te2"}
    renamed = {}
    for name, tensor in tensors.items():
        part, layer = name.split(".lora_")[0].split(".", 1)
        if part != "unet":
            layer = f"text_model.{layer.removeprefix('text_model.')}"
        own = f"{prefixes[part]}_{layer.replace('.', '_')}"
        renamed[f"{own}.{'lora_down' if 'lora_A' in name else 'lora_up'}.weight"] = tensor.contiguous()
        renamed[f"{own}.alpha"] = torch.tensor(alpha)
    save_file(renamed, path, metadata=metadata)


def save_demo_loras(folder: Path, pipeline: Any) -> None:
    """One adapter of each kind."""
    folder.mkdir(exist_ok=True)
    unet = pipeline.unet

    def of_unet(suffixes: tuple[str, ...], rank: int, seed: int, size: float = 0.3) -> Tensors:
        return prefixed(random_changes(unet, suffixes, rank=rank, seed=seed, size=size), "unet")

    save_peft(folder / "attention.safetensors", of_unet(ATTENTION, 4, 1))
    save_peft(
        folder / "peft_alpha.safetensors",
        of_unet(("to_q", "to_v"), 3, 2),
        {"unet.r": 3, "unet.lora_alpha": 6, "unet.target_modules": ["to_q", "to_v"]},
    )
    save_diffusers(folder / "diffusers.safetensors", of_unet(MORE_LINEAR, 8, 3))
    save_kohya(folder / "kohya.safetensors", of_unet(ATTENTION, 4, 4), alpha=2.0)
    save_peft(folder / "convolutions.safetensors", of_unet((*ATTENTION, *CONVOLUTIONS), 2, 5))
    texts = {}
    for seed, part in enumerate(("text_encoder", "text_encoder_2"), 6):
        changes = random_changes(getattr(pipeline, part), TEXT, rank=4, seed=seed, size=0.5)
        texts |= prefixed(changes, part)
    save_kohya(folder / "texts.safetensors", {**of_unet(ATTENTION, 2, 8), **texts}, alpha=4.0)
    save_peft(folder / "only_texts.safetensors", {name: each for name, each in texts.items() if "proj" in name})
