# SPDX-License-Identifier: Apache-2.0
"""LoRA files: finds out what they change, checks that this fits the checkpoint, and loads them.

diffusers' own functions convert the formats of PEFT, diffusers and kohya.
"""

import hashlib
import json
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from diffusers import StableDiffusionXLPipeline
from diffusers.utils import (
    convert_state_dict_to_diffusers,
    convert_state_dict_to_peft,
    convert_unet_state_dict_to_peft,
)
from safetensors import SafetensorError, safe_open
from torch import nn

from diffusion_engine.loras.adapter import Adapter, Matrices
from diffusion_engine.loras.layers import AdaptedConv2d, AdaptedLinear
from diffusion_engine.loras.layout import Layout, width

logger = logging.getLogger(__name__)

PARTS = ("unet", "text_encoder", "text_encoder_2")
# Adapters of other kinds, by a part of their tensors' names.
OTHER_KINDS = {
    "dora_scale": "DoRA",
    "lora_magnitude_vector": "DoRA",
    "lokr_": "LoKr",
    "hada_": "LoHa",
    "oft_": "OFT",
    "lora_mid": "LoCon with Tucker decomposition",
    "lora_B.bias": "LoRA with biases",
}
# The width of the texts that a UNet reads says what it is.
ARCHITECTURES = {768: "Stable Diffusion 1", 1024: "Stable Diffusion 2", 1280: "the SDXL refiner", 2048: "SDXL"}
TRANSFORMER_NAMES = ("lora_transformer_", "double_blocks", "single_transformer_blocks", "diffusion_model.")


class UnusableLoRAError(ValueError):
    """A file whose adapter this checkpoint cannot use, with the reason as a sentence."""


@dataclass(frozen=True, slots=True)
class Change:
    """What an adapter adds to the weight of one layer: scale * up @ down."""

    down: torch.Tensor  # (r, in); of a convolution (r, in, k, k)
    up: torch.Tensor  # (out, r); of a convolution (out, r, 1, 1)
    scale: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LoRAFile:
    """A file that was found when the engine started. With a reason, it cannot be used."""

    name: str
    path: Path
    unusable: str = ""
    layers: tuple[str, ...] = ()  # of the UNet
    rank: int = 0  # the highest of the layers
    trigger_words: str = ""


def examine(name: str, path: Path, pipeline: Any) -> LoRAFile:
    """Read the file's header, and check that the adapter fits the checkpoint."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            # Only numbers are read; of tensors, the shapes suffice.
            tensors = {key: _placeholder(file, key) for key in file.keys()}  # noqa: SIM118
        changes = checked(tensors, metadata, pipeline)
    except (SafetensorError, OSError) as error:
        return _unusable(name, path, unreadable(path, error))
    except UnusableLoRAError as error:
        return _unusable(name, path, str(error))
    trigger_words = metadata.get("modelspec.trigger_phrase", "")
    return LoRAFile(
        name=name, path=path, layers=tuple(changes["unet"]), rank=rank_of(changes), trigger_words=trigger_words
    )


def rank_of(changes: Mapping[str, Mapping[str, Change]]) -> int:
    """The highest rank of the UNet's layers, which all of them take in memory."""
    return max((len(change.down) for change in changes["unet"].values()), default=0)


def load(file: LoRAFile, pipeline: Any, layout: Layout, device: torch.device) -> Adapter:
    """Load an adapter. Raises `UnusableLoRAError` if the file has changed, or has values that are not finite."""
    try:
        content = file.path.read_bytes()  # once, so that the hash is that of the loaded tensors
        tensors, metadata = safetensors.torch.load(content), metadata_of(content)
    except (SafetensorError, OSError) as error:
        raise UnusableLoRAError(unreadable(file.path, error)) from error
    if broken := [name for name, tensor in tensors.items() if not tensor.float().isfinite().all()]:
        raise UnusableLoRAError(f"Its tensor {broken[0]} has values that are not finite.")
    changes = checked(tensors, metadata, pipeline)
    if unexpected := changes["unet"].keys() - layout.inputs.keys():
        raise UnusableLoRAError(f"It was replaced after the engine started, and changes {min(unexpected)} now.")
    num_inputs, num_outputs = layout.widths(changes["unet"])
    rank = rank_of(changes)
    if rank > file.rank:
        raise UnusableLoRAError(f"It was replaced after the engine started, and has the rank {rank} now.")
    down = torch.zeros(rank, num_inputs)
    up = torch.zeros(rank, num_outputs)
    for name, change in changes["unet"].items():
        own_down, own_up = _matrices(change)
        down[: len(own_down), layout.inputs[name]] = own_down
        up[: len(own_up), layout.outputs[name]] = own_up
    to: dict[str, Any] = {"device": device, "dtype": pipeline.unet.dtype}
    return Adapter(
        sha256=hashlib.sha256(content).hexdigest(),
        down=down.to(**to),
        up=up.to(**to),
        has_convolutions=num_inputs > layout.num_linear_inputs,
        text=tuple(
            {name: _moved(_matrices(change), **to) for name, change in changes[part].items()} for part in PARTS[1:]
        ),
    )


def unreadable(path: Path, error: Exception) -> str:
    """Clients receive this reason, so it has no folder of the server."""
    return f"It cannot be read as a safetensors file: {str(error).replace(str(path), path.name)}."


def metadata_of(content: bytes) -> dict[str, str]:
    """The metadata of a valid safetensors file: its header is JSON, after 8 bytes with the header's length."""
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return dict(header.get("__metadata__", {}))


def checked(
    tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str], pipeline: Any
) -> dict[str, dict[str, Change]]:
    """The changes by part and layer. Raises `UnusableLoRAError` if one does not fit the checkpoint."""
    for part_of_name, kind in OTHER_KINDS.items():
        if any(part_of_name in name for name in tensors):
            raise UnusableLoRAError(f"It is a {kind}, which the engine does not support.")
    try:
        changes = converted(tensors, metadata, pipeline)
    except (ArithmeticError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise UnusableLoRAError(
            f"{_architectures(tensors, metadata, pipeline)}diffusers cannot convert it: {error}."
        ) from error
    for part, layers in changes.items():
        modules = dict(getattr(pipeline, part).named_modules())
        for name, change in layers.items():
            if problem := _misfit(modules.get(name), change):
                raise UnusableLoRAError(
                    f"{_architectures(tensors, metadata, pipeline)}In the {part}, the layer {name} {problem}."
                )
    if not any(changes.values()):
        raise UnusableLoRAError(f"{_architectures(tensors, metadata, pipeline)}It changes no layer of this checkpoint.")
    return changes


def converted(
    tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str], pipeline: Any
) -> dict[str, dict[str, Change]]:
    """The changes by part and layer, from any of the formats."""
    named, alphas = StableDiffusionXLPipeline.lora_state_dict(dict(tensors), unet_config=pipeline.unet.config)
    settings = json.loads(metadata.get("lora_adapter_metadata", "{}"))
    changes: dict[str, dict[str, Change]] = {}
    for part in PARTS:
        own = {name: tensor for name, tensor in named.items() if name.startswith(f"{part}.")}
        own_settings = {
            name.removeprefix(f"{part}."): value for name, value in settings.items() if name.startswith(f"{part}.")
        }
        in_peft = _in_peft_format({name.removeprefix(f"{part}."): tensor for name, tensor in own.items()}, part)
        changes[part] = {}
        for name, (new_name, down) in zip(own, in_peft.items(), strict=True):
            layer = new_name.removesuffix(".lora_A.weight")
            if layer == new_name:
                continue
            scale = _scale(name, layer, len(down), alphas or {}, own_settings)
            change = Change(down, in_peft[f"{layer}.lora_B.weight"], scale)
            # transformers has dropped this prefix from the layers of some encoders.
            is_old = not hasattr(getattr(pipeline, part), "text_model")
            changes[part][layer.removeprefix("text_model.") if is_old else layer] = change
    return changes


def _in_peft_format(tensors: dict[str, torch.Tensor], part: str) -> dict[str, torch.Tensor]:
    """Tensors named `{layer}.lora_A.weight` and `{layer}.lora_B.weight`, in the same order."""
    if not tensors:
        return {}
    if part == "unet":
        is_peft = any("lora_A" in name for name in tensors)
        renamed: dict[str, torch.Tensor] = tensors if is_peft else convert_unet_state_dict_to_peft(tensors)
        return renamed
    in_peft: dict[str, torch.Tensor] = convert_state_dict_to_peft(convert_state_dict_to_diffusers(tensors))
    return in_peft


def _scale(name: str, layer: str, rank: int, alphas: Mapping[str, float], settings: Mapping[str, Any]) -> float:
    """The adapter's own scale of a layer: from kohya's alphas, else from PEFT's settings in the metadata, else 1."""
    for of_layer in (f"{name}.alpha", f"{name.split('.lora.')[0]}.alpha"):
        if of_layer in alphas:
            return float(alphas[of_layer]) / rank
    if not settings:
        return 1.0
    patterns = {key.removeprefix("^"): alpha for key, alpha in (settings.get("alpha_pattern") or {}).items()}
    own_alpha = next((alpha for key, alpha in patterns.items() if f".{layer}".endswith(f".{key}")), None)
    alpha = settings.get("lora_alpha", rank) if own_alpha is None else own_alpha
    return float(alpha) / (math.sqrt(rank) if settings.get("use_rslora") else rank)


def _misfit(layer: nn.Module | None, change: Change) -> str:
    """What is wrong with a change; empty if it fits the layer."""
    if layer is None:
        return "does not exist"
    if type(layer) not in (nn.Linear, nn.Conv2d, AdaptedLinear, AdaptedConv2d) or getattr(layer, "groups", 1) != 1:
        return f"is a {type(layer).__name__}, which the engine cannot adapt"
    shapes = (change.up.shape, change.down.shape)
    if any(len(shape) < 2 or 0 in shape for shape in shapes):
        return f"has no matrices, but tensors of shape {tuple(shapes[0])} and {tuple(shapes[1])}"
    expected, found = width(layer), (change.up[:, 0].numel(), change.down[0].numel())
    if expected != found:
        return f"has a weight of {expected[0]} by {expected[1]}, and the adapter {found[0]} by {found[1]}"
    if change.up.shape[1] != len(change.down):
        return f"has matrices of rank {len(change.down)} and {change.up.shape[1]}"
    return ""


def _matrices(change: Change) -> Matrices:
    return change.down.flatten(1).float(), (change.up.flatten(1).float() * change.scale).T


def _moved(matrices: Matrices, **to: Any) -> Matrices:
    down, up = matrices
    return down.to(**to), up.to(**to)


def _architectures(tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str], pipeline: Any) -> str:
    """A sentence if the adapter was made for another architecture; else empty."""
    width = pipeline.unet.config.cross_attention_dim
    ours = ARCHITECTURES.get(width, f"a UNet that reads texts of width {width}")
    widths = {tensor.shape[-1] for name, tensor in tensors.items() if "attn2" in name and _reads_text(name)}
    theirs = next((ARCHITECTURES.get(each, f"a UNet that reads texts of width {each}") for each in widths), "")
    if any(part_of_name in name for name in tensors for part_of_name in TRANSFORMER_NAMES):
        theirs = "a transformer, such as FLUX or Stable Diffusion 3"
    if not theirs:
        theirs = metadata.get("modelspec.architecture") or metadata.get("ss_base_model_version", "")
    return f"It is for {theirs}; this checkpoint is {ours}. " if theirs and theirs != ours else ""


def _reads_text(name: str) -> bool:
    """Whether this is the matrix that reduces the text in a cross-attention layer."""
    return ("to_k" in name or "to_v" in name) and ("lora_A" in name or "down" in name.rsplit("to_", 1)[-1])


def _placeholder(file: Any, name: str) -> torch.Tensor:
    part = file.get_slice(name)
    shape = part.get_shape()
    return file.get_tensor(name) if math.prod(shape) == 1 else torch.empty(shape, device="meta")


def _unusable(name: str, path: Path, reason: str) -> LoRAFile:
    logger.warning("the LoRA %s cannot be used: %s", path, reason)
    return LoRAFile(name=name, path=path, unusable=reason)
