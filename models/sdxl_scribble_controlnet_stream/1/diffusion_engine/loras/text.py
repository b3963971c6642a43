# SPDX-License-Identifier: Apache-2.0
"""The text encoders with the adapters of a request."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from diffusion_engine.loras.adapter import Matrices
from diffusion_engine.loras.batch import ScaledAdapters


@contextmanager
def adapted_text_encoders(encoders: Sequence[nn.Module], adapters: ScaledAdapters) -> Iterator[None]:
    """While this is active, the text encoders return what they return with these adapters. For one thread only."""
    hooks = []
    try:
        for adapter, scale in adapters:
            for encoder, layers in zip(encoders, adapter.text, strict=True):
                for name, matrices in layers.items():
                    hooks.append(encoder.get_submodule(name).register_forward_hook(_addition(matrices, scale)))
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _addition(matrices: Matrices, scale: float) -> Any:
    down, up = matrices

    def add(_layer: nn.Module, arguments: tuple[torch.Tensor, ...], result: torch.Tensor) -> torch.Tensor:
        return result + (arguments[0] @ down.T) @ up * scale

    return add
