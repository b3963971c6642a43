# SPDX-License-Identifier: Apache-2.0
"""The UNet with adapters: layers that add each row's own adapters to their output."""

import threading
from typing import Any, cast

import torch
from torch import nn
from torch.nn import functional

from diffusion_engine.loras.batch import AdapterBatch
from diffusion_engine.loras.layout import Layout


class ActiveBatch:
    """The adapters of the pass that runs now. None: the layers return what they return without adapters."""

    batch: AdapterBatch | None = None


class ActiveBatchOfThread(threading.local, ActiveBatch):
    """The same for passes that run at the same time on several threads. Compilers cannot read it."""


class AdaptedLinear(nn.Linear):
    """A linear layer with adapters. It shares its parameters with the layer that it replaces."""

    def __init__(self, layer: nn.Linear, active: ActiveBatch, inputs: slice, outputs: slice) -> None:
        nn.Module.__init__(self)
        self.__dict__.update(layer.__dict__)
        self.active, self.inputs, self.outputs = active, inputs, outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Args: x: (R, N, in) or (R, in)."""
        result = functional.linear(x, self.weight, self.bias)
        batch = self.active.batch
        if batch is None:
            return result
        down, up = batch.of_layer(self.inputs, self.outputs)  # (L, r, in), (L, r, out)
        rows, changed = batch.rows(x), batch.rows(result)
        if x.dim() == 2:
            rows, changed = rows[:, None], changed[:, None]
        changed.baddbmm_(torch.bmm(rows, down.transpose(1, 2)), up)  # in place: this is a part of `result`
        return result


class AdaptedConv2d(nn.Conv2d):
    """A convolution with adapters. It shares its parameters with the layer that it replaces."""

    def __init__(self, layer: nn.Conv2d, active: ActiveBatch, inputs: slice, outputs: slice) -> None:
        nn.Module.__init__(self)
        self.__dict__.update(layer.__dict__)
        self.active, self.inputs, self.outputs = active, inputs, outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Args: x: (R, in, h, w)."""
        result: torch.Tensor = self._conv_forward(x, self.weight, self.bias)
        batch = self.active.batch
        if batch is None or not batch.has_convolutions:
            return result
        down, up = batch.of_layer(self.inputs, self.outputs)  # (L, r, in * k * k), (L, r, out)
        # All places of the kernel as columns, because grouped convolutions with few channels are slow.
        columns = functional.unfold(
            batch.rows(x), self.kernel_size, self.dilation, cast(Any, self.padding), self.stride
        )
        change = torch.bmm(up.transpose(1, 2), torch.bmm(down, columns))  # (L, out, h' * w')
        changed = batch.rows(result)
        changed.add_(change.view_as(changed))
        return result


def adapt(unet: Any, layout: Layout, *, has_threads: bool) -> "AdaptedUNet":
    """Replace layers of the UNet by layers that can have adapters, and otherwise return the same.

    Args:
        has_threads: passes run at the same time on several threads.
    """
    active = ActiveBatchOfThread() if has_threads else ActiveBatch()
    for name, inputs in layout.inputs.items():
        layer = unet.get_submodule(name)
        of_class = AdaptedLinear if isinstance(layer, nn.Linear) else AdaptedConv2d
        unet.set_submodule(name, of_class(layer, active, inputs, layout.outputs[name]))
    return AdaptedUNet(unet, active)


class AdaptedUNet(nn.Module):
    """Called like the UNet, with the adapters of the pass as the option `loras`."""

    def __init__(self, unet: Any, active: ActiveBatch) -> None:
        super().__init__()
        self.unet = unet
        self._active = active

    def forward(self, latents: torch.Tensor, *arguments: Any, loras: AdapterBatch, **options: Any) -> Any:
        self._active.batch = loras
        try:
            return self.unet(latents, *arguments, **options)
        finally:
            self._active.batch = None
