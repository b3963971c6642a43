# SPDX-License-Identifier: Apache-2.0
"""Optimizations of the networks: channels_last, TorchScript, compiled blocks. They do not change the pictures."""

from typing import Any

import torch

from diffusion_engine.config import EngineConfig
from diffusion_engine.cpu_parallel import suitable_cpu_parallel_size
from diffusion_engine.loras.layout import Layout
from diffusion_engine.memory_plan import MemoryPlan
from diffusion_engine.networks import Networks

# The largest UNet that counts as small. The demo checkpoint's has 7 million parameters, SDXL's 2.6 billion.
MAX_SMALL_PARAMETERS = 100_000_000


def optimized_networks(
    config: EngineConfig,
    pipeline: Any,
    *,
    device: torch.device | None = None,
    memory: MemoryPlan | None = None,
    layout: Layout | None = None,
) -> Networks:
    """The pipeline's networks with the config's optimizations. The pipeline itself gets the new memory layout too.

    Args:
        device: of the passes; None: the pipeline's.
    """
    device = device or pipeline.device
    if config.is_channels_last is not False:
        use_channels_last(pipeline)
    if config.is_compiled:
        compile_blocks(pipeline)
        return Networks.of_pipeline(pipeline, device=device, memory=memory, layout=layout)
    is_small = is_small_on_cpu(pipeline, device)
    return Networks.of_pipeline(
        pipeline,
        cpu_parallel_size=suitable_cpu_parallel_size(device),
        is_traced=is_small if config.is_traced is None else config.is_traced,
        merges_loras=is_small and pipeline.unet.dtype == torch.float32,  # in others, a weak LoRA is rounded away
        device=device,
        memory=memory,
        layout=layout,
    )


def is_small_on_cpu(pipeline: Any, device: torch.device) -> bool:
    """Whether to trace the networks and to copy the UNet for LoRAs. Large ones gain little, and copies take memory."""
    num_parameters = sum(parameter.numel() for parameter in pipeline.unet.parameters())
    return bool(device.type == "cpu" and num_parameters < MAX_SMALL_PARAMETERS)


def use_channels_last(pipeline: Any) -> None:
    """The layout in which GPUs run convolutions on tensor cores. CPUs run them a little faster, too."""
    for network in (pipeline.unet, pipeline.controlnet, pipeline.vae):
        network.to(memory_format=torch.channels_last)


def compile_blocks(pipeline: Any) -> None:
    """Compile only the repeated transformer blocks: compiling everything takes about ten times as long.

    With `dynamic`, the code of a block serves all sizes and all row counts but 1, which gets its own.
    """
    repeated = set(pipeline.unet._repeated_blocks)
    for network in (pipeline.unet, pipeline.controlnet):  # diffusers lists them only for the UNet
        for block in network.modules():
            if type(block).__name__ in repeated:
                block.compile(fullgraph=True, dynamic=True)
