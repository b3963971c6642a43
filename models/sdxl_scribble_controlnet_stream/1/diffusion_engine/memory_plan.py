# SPDX-License-Identifier: Apache-2.0
"""Decides how an engine fits into its GPU's memory: which sizes are decoded in tiles, and whether networks move.

The decision depends only on the networks and the device, so every start on the same device makes the same pictures.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from diffusion_engine.config import EngineConfig
from diffusion_engine.memory_estimate import Size, decode_bytes, pass_bytes, weight_bytes, without_data

logger = logging.getLogger(__name__)

GIB = 1024**3
# CUDA itself, cuDNN's workspaces, waiting requests and fragmentation.
RESERVED_BYTES = GIB
# A tile's side in pixels. Larger ones save little memory: one of 1024 is a whole picture of SDXL.
MAX_TILE = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryNeeds:
    """Bytes: the weights of each group of networks, and what each group needs while it runs."""

    texts: int  # the text encoders
    denoiser: int  # UNet and ControlNet
    vae: int
    a_pass: int  # of two rows, at the largest size
    decoding: int  # of the largest size
    tiled_decoding: int

    def total(self, *, is_offloaded: bool, is_tiled: bool) -> int:
        """With offloading, the text encoders and the VAE are there only while they run. UNet and ControlNet stay."""
        decoding = self.tiled_decoding if is_tiled else self.decoding
        if is_offloaded:
            return self.denoiser + max(self.texts, self.a_pass, self.vae + decoding)
        return self.texts + self.denoiser + self.vae + max(self.a_pass, decoding)


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryPlan:
    """How the engine uses the memory. The default is for a CPU: all networks stay, and no size needs tiles."""

    is_offloaded: bool = False
    tiled_sizes: frozenset[Size] = frozenset()
    needed: int | None = None  # bytes; None: not computed, because the device is a CPU
    available: int | None = None  # the device's bytes

    def is_tiled(self, width: int, height: int) -> bool:
        return (width, height) in self.tiled_sizes

    def describe(self) -> dict[str, Any]:
        """The same as plain data, in GiB."""
        memory = {"needed": self.needed, "available": self.available}
        return {
            "offload": "model" if self.is_offloaded else "none",
            "tiled_sizes": [f"{width}x{height}" for width, height in sorted(self.tiled_sizes)],
            "memory_gib": {name: round(count / GIB, 2) for name, count in memory.items() if count is not None},
        }


def plan_memory(
    config: EngineConfig, pipeline: Any, device: torch.device, sizes: Sequence[Size], *, has_adapters: bool = False
) -> MemoryPlan:
    """The first plan that fits: everything stays; then with tiles; then with tiles and offloading.

    Args:
        has_adapters: the memory for adapters counts.

    Raises:
        ValueError: `offload` needs a GPU, and there is none.
    """
    tile = tile_size(pipeline.vae)
    large = frozenset(size for size in sizes if max(size) > tile)
    if device.type == "cpu":
        if config.offload == "model":
            raise ValueError("offload is model, but the device is a CPU; set it to none or auto")
        return MemoryPlan(tiled_sizes=large if config.vae_tiling else frozenset())
    needs = memory_needs(pipeline, max(sizes, key=lambda size: size[0] * size[1]))
    available = total_memory(device)
    # The loaded adapters, and those of a pass.
    reserved = RESERVED_BYTES + (2 * config.lora_memory_mb * 1024**2 if has_adapters else 0)
    budget = available - reserved
    for is_offloaded, is_tiled in allowed_plans(config):
        needed = needs.total(is_offloaded=is_offloaded, is_tiled=is_tiled)
        if needed <= budget:
            break
    plan = MemoryPlan(
        is_offloaded=is_offloaded,
        tiled_sizes=large if is_tiled else frozenset(),
        needed=needed + reserved,
        available=available,
    )
    log = logger.info if needed <= budget else logger.warning
    log("memory: %s%s", plan.describe(), "" if needed <= budget else "; the GPU may be too small")
    return plan


def allowed_plans(config: EngineConfig) -> Iterator[tuple[bool, bool]]:
    """(offloaded, tiled), best first. Tiles cost less time than moving networks."""
    for is_offloaded, is_tiled in ((False, False), (False, True), (True, False), (True, True)):
        if config.offload in ("auto", "model" if is_offloaded else "none") and config.vae_tiling in (None, is_tiled):
            yield is_offloaded, is_tiled


def memory_needs(pipeline: Any, largest: Size) -> MemoryNeeds:
    """Computed with networks without data, which takes about two seconds for SDXL."""
    vae, scale_factor = without_data(pipeline.vae), pipeline.vae_scale_factor
    tile, pixel = tile_size(vae), 3 * vae.dtype.itemsize
    return MemoryNeeds(
        texts=weight_bytes(pipeline.text_encoder, pipeline.text_encoder_2),
        denoiser=weight_bytes(pipeline.unet, pipeline.controlnet),
        vae=weight_bytes(pipeline.vae),
        a_pass=pass_bytes(
            without_data(pipeline.unet), without_data(pipeline.controlnet), largest, 2, scale_factor=scale_factor
        ),
        decoding=decode_bytes(vae, largest, scale_factor=scale_factor),
        # The decoded tiles with their overlaps, and the picture that they are joined to.
        tiled_decoding=decode_bytes(vae, (tile, tile), scale_factor=scale_factor) + 3 * largest[0] * largest[1] * pixel,
    )


def tile_size(vae: Any) -> int:
    """The side of a tile in pixels: diffusers' own, but at most `MAX_TILE`."""
    return min(int(vae.tile_sample_min_size), MAX_TILE)


def total_memory(device: torch.device) -> int:
    return int(torch.cuda.get_device_properties(device).total_memory)
