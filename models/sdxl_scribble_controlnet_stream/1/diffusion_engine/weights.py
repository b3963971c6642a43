# SPDX-License-Identifier: Apache-2.0
"""Loads the networks from a checkpoint and separate parts, and hashes their weights."""

import hashlib
import logging
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from diffusers import (
    AutoencoderKL,
    AutoencoderTiny,
    ControlNetModel,
    StableDiffusionXLControlNetPipeline,
    UNet2DConditionModel,
)

from diffusion_engine.config import EngineConfig
from diffusion_engine.single_file import is_single_file, load_single_file, load_single_part

logger = logging.getLogger(__name__)

DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}
# A sample of each tensor suffices, because other weights differ nearly everywhere. Hashing 7 GB takes half a minute.
NUM_SAMPLES = 64


def choose_device(wanted: str, *, gpu_index: int | None = None) -> torch.device:
    """`auto` and `cuda`: the GPU that Triton gave this instance, else the first one. `auto` without a GPU: the CPU."""
    if wanted not in ("auto", "cuda"):
        return torch.device(wanted)
    if wanted == "auto" and not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", gpu_index or 0)


def choose_dtype(wanted: str, device: torch.device) -> torch.dtype:
    if wanted == "auto":
        return torch.float16 if device.type == "cuda" else torch.float32
    return DTYPES[wanted]


def choose_vae_dtype(wanted: str, vae: Any, device: torch.device) -> torch.dtype:
    """`auto`: the dtype of the other networks. In float16, a VAE whose config sets `force_upcast` gets float32.

    diffusers' pipelines convert such a VAE for each picture; here it stays float32. In bfloat16 it cannot overflow.

    Raises:
        ValueError: the GPU cannot compute in bfloat16.
    """
    if wanted == "auto":
        dtype: torch.dtype = vae.dtype
        return torch.float32 if dtype is torch.float16 and vae.config.force_upcast else dtype
    if wanted == "bfloat16" and device.type == "cuda" and not computes_in_bfloat16(device):
        raise ValueError("vae_dtype is bfloat16, which this GPU can only emulate; set it to float32 or auto")
    return DTYPES[wanted]


def computes_in_bfloat16(device: torch.device) -> bool:
    """Whether a GPU has instructions for bfloat16: NVIDIA's since Ampere."""
    return torch.cuda.get_device_capability(device) >= (8, 0)


def load_pipeline(config: EngineConfig, *, gpu_index: int | None = None) -> Any:
    """Load diffusers' SDXL ControlNet pipeline with all parts on one device."""
    pipeline = load_on_cpu(config, choose_device(config.device, gpu_index=gpu_index))
    return pipeline.to(choose_device(config.device, gpu_index=gpu_index))


def load_on_cpu(config: EngineConfig, device: torch.device) -> Any:
    """Load diffusers' SDXL ControlNet pipeline for a device. All parts but the VAE have the same dtype."""
    diffusers.utils.logging.disable_progress_bar()  # in a log they make one endless line
    transformers.utils.logging.disable_progress_bar()
    # It logs the end of each prompt that is too long, but prompts are private.
    logging.getLogger("diffusers.pipelines.controlnet").setLevel(logging.ERROR)
    dtype = choose_dtype(config.dtype, device)
    parts: dict[str, Any] = {}
    if config.controlnet:
        parts["controlnet"] = load_network(ControlNetModel, config.controlnet, config.config, dtype)
    elif not has_controlnet(config.checkpoint):
        raise ValueError(
            f"{config.checkpoint} has no ControlNet: set the parameter controlnet (or SDXL_CONTROLNET); for SDXL, to "
            "xinsir/controlnet-scribble-sdxl-1.0"
        )
    if config.unet:
        parts["unet"] = load_network(UNet2DConditionModel, config.unet, config.config, dtype)
    if config.vae:
        parts["vae"] = load_network(AutoencoderKL, config.vae, config.config, dtype)
    if is_single_file(config.checkpoint):
        pipeline = load_single_file(config.checkpoint, config.config, dtype, **parts)
    else:
        pipeline = load_part(
            StableDiffusionXLControlNetPipeline, config.checkpoint, dtype, add_watermarker=False, **parts
        )
    # diffusers' own `to` logs a warning.
    torch.nn.Module.to(pipeline.vae, choose_vae_dtype(config.vae_dtype, pipeline.vae, device))
    pipeline.set_progress_bar_config(disable=True)
    logger.info("loaded %s for %s in %s, its VAE in %s", config.checkpoint, device, dtype, pipeline.vae.dtype)
    return pipeline


def load_preview_vae(config: EngineConfig, pipeline: Any, device: torch.device) -> Any:
    """Load the tiny VAE for previews; None if none is configured.

    Raises:
        ValueError: its latents have another number of channels.
    """
    if not config.preview_vae:
        return None
    vae = load_part(AutoencoderTiny, config.preview_vae, pipeline.unet.dtype)
    channels, expected = vae.config.latent_channels, pipeline.vae.config.latent_channels
    if channels != expected:
        raise ValueError(
            f"preview_vae is {config.preview_vae}, for latents with {channels} channels; this checkpoint's have "
            f"{expected}. For SDXL, set it to madebyollin/taesdxl"
        )
    return vae.to(device).eval()


def has_controlnet(checkpoint: str) -> bool:
    """Whether the checkpoint has its own. One file never does."""
    if is_single_file(checkpoint):
        return False
    return "controlnet" in StableDiffusionXLControlNetPipeline.load_config(checkpoint)


def load_network(of_class: Any, source: str, config: str, dtype: torch.dtype) -> Any:
    """Load a network that replaces the checkpoint's own, from a folder, a hub name or a file."""
    if is_single_file(source):
        return load_single_part(of_class, source, config, dtype)
    return load_part(of_class, source, dtype)


def load_part(of_class: Any, source: str, dtype: torch.dtype, **parts: Any) -> Any:
    """Load a part, only from safetensors, since pickles can run code. Prefers the hub's smaller fp16 variant."""
    if Path(source).is_dir() or dtype is torch.float32:
        return of_class.from_pretrained(source, dtype=dtype, use_safetensors=True, **parts)
    try:
        return of_class.from_pretrained(source, dtype=dtype, use_safetensors=True, variant="fp16", **parts)
    except (OSError, ValueError) as error:
        logger.info("%s has no fp16 variant: %s", source, error)
        return of_class.from_pretrained(source, dtype=dtype, use_safetensors=True, **parts)


def revision_of(pipeline: Any) -> str:
    """A hash of the loaded weights, because the weights behind a name may change.

    It has 16 hex digits, over the names, shapes, dtypes and sampled values of all tensors.
    """
    digest = hashlib.sha256()
    for part, module in sorted(pipeline.components.items()):
        if not isinstance(module, torch.nn.Module):
            continue
        for name, tensor in sorted(module.state_dict().items()):
            digest.update(f"{part}.{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
            values = tensor.reshape(-1)
            samples = values[:: max(1, values.numel() // NUM_SAMPLES)][:NUM_SAMPLES].contiguous().cpu()
            digest.update(samples.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
