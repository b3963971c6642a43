# SPDX-License-Identifier: Apache-2.0
"""A copy of the UNet with the adapters of one request in its weights, where they take no time."""

import copy
import hashlib
from collections import Counter
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import nn

from diffusion_engine.loras.batch import ScaledAdapters
from diffusion_engine.loras.layout import Layout


def are_distinct(unet: nn.Module, layout: Layout) -> bool:
    """Whether no layer that can have adapters has the same weights as another one.

    TorchScript keeps equal constants only once, so both would get the merged weights.
    """

    def fingerprint(weight: Any) -> tuple[Any, bytes]:
        return weight.shape, hashlib.sha256(weight.detach().numpy().tobytes()).digest()

    counts = Counter(fingerprint(each) for each in unet.parameters())
    return all(counts[fingerprint(unet.get_submodule(name).weight)] == 1 for name in layout.inputs)


class MergedUNet:
    """For passes whose rows all have the same adapters. Only for a small UNet: the copy takes memory.

    Args:
        optimized: makes the function that runs the copy. If it has the weights as constants, they must share the memory
            of the copy's weights, so that they change with them.
    """

    def __init__(self, unet: nn.Module, layout: Layout, optimized: Callable[[nn.Module], Any]) -> None:
        changed = {id(unet.get_submodule(name).weight) for name in layout.inputs}
        shared = {id(each): each for each in (*unet.parameters(), *unet.buffers()) if id(each) not in changed}
        copied = copy.deepcopy(unet, cast(dict[int, Any], shared)).requires_grad_(False)
        self._layers: list[tuple[Any, Any, slice, slice]] = [
            (unet.get_submodule(name).weight, copied.get_submodule(name).weight, inputs, layout.outputs[name])
            for name, inputs in layout.inputs.items()
        ]
        self._run = optimized(copied)
        # What is merged now. Not the adapters themselves, whose memory the engine's cache may free.
        self._merged: list[tuple[str, float]] | None = []

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return self._run(*arguments, **options)

    @torch.inference_mode()
    def merge(self, adapters: ScaledAdapters) -> None:
        """Use these adapters from now on. No pass may run meanwhile."""
        wanted = [(adapter.sha256, scale) for adapter, scale in adapters]
        if wanted == self._merged:
            return
        self._merged = None  # if this fails halfway, the next call must not rely on the weights
        for original, weight, inputs, outputs in self._layers:
            total = original.flatten(1)  # (out, in)
            for adapter, scale in adapters:
                down, up = adapter.down[:, inputs], adapter.up[:, outputs]  # (r, in), (r, out)
                if down.shape[1]:  # else it does not change convolutions
                    total = torch.addmm(total, up.T, down, alpha=scale)
            weight.copy_(total.view(weight.shape))
        self._merged = wanted
