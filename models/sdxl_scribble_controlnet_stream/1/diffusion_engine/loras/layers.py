# SPDX-License-Identifier: Apache-2.0
"""The UNet with adapters: layers that add each row's own adapters to their output."""

import copy
import threading
from typing import Any, cast

import torch
from torch import nn
from torch.nn import functional

from diffusion_engine.loras.batch import AdapterBatch
from diffusion_engine.loras.layout import Layout


class ActiveBatch(threading.local):
    """The adapters of the pass that runs now on this thread."""

    batch: AdapterBatch


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
        if not batch.has_convolutions:
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


def adapt(unet: nn.Module, layout: Layout) -> "AdaptedUNet":
    """A copy of the UNet, with layers that can have adapters. It shares all tensors with the UNet.

    The UNet itself stays as it is, and so do its compiled blocks. Those of the copy are not compiled: each layer has
    other columns, and would need code of its own.
    """
    tensors = {id(tensor): tensor for tensor in (*unet.parameters(), *unet.buffers())}
    adapted = copy.deepcopy(unet, cast(dict[int, Any], tensors))
    active = ActiveBatch()
    for name, inputs in layout.inputs.items():
        layer: Any = adapted.get_submodule(name)
        of_class = AdaptedLinear if isinstance(layer, nn.Linear) else AdaptedConv2d
        adapted.set_submodule(name, of_class(layer, active, inputs, layout.outputs[name]))
    return AdaptedUNet(adapted, active)


class AdaptedUNet(nn.Module):
    """Called like the UNet, with the adapters of the pass as the option `loras`."""

    def __init__(self, unet: nn.Module, active: ActiveBatch) -> None:
        super().__init__()
        self.unet = unet
        self._active = active

    def forward(self, latents: torch.Tensor, *arguments: Any, loras: AdapterBatch, **options: Any) -> Any:
        self._active.batch = loras
        try:
            return self.unet(latents, *arguments, **options)
        finally:
            del self._active.batch
