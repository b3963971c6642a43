# SPDX-License-Identifier: Apache-2.0
"""The layers that an engine's adapters change, and the columns of each in the tensors of an adapter."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from torch import nn


@dataclass(frozen=True, slots=True)
class Layout:
    """All adapters of an engine have the same columns, so that those of a pass are one tensor, whatever they change.

    The linear layers come first: adapters that change no convolution have only the columns of the linear layers.
    """

    inputs: Mapping[str, slice]  # the columns by layer, of the matrices that reduce a layer's input to the rank
    outputs: Mapping[str, slice]  # of the matrices that expand it to the layer's output
    num_linear_inputs: int
    num_linear_outputs: int
    num_inputs: int
    num_outputs: int

    @classmethod
    def of(cls, unet: nn.Module, names: Iterable[str]) -> Self:
        layers = {name: unet.get_submodule(name) for name in sorted(set(names))}
        linear = [name for name, layer in layers.items() if isinstance(layer, nn.Linear)]
        rest = [name for name in layers if name not in set(linear)]
        inputs: dict[str, slice] = {}
        outputs: dict[str, slice] = {}
        num_inputs = num_outputs = 0
        widths = (0, 0)
        for name in linear + rest:
            num_out, num_in = width(layers[name])
            inputs[name] = slice(num_inputs, num_inputs + num_in)
            outputs[name] = slice(num_outputs, num_outputs + num_out)
            num_inputs, num_outputs = num_inputs + num_in, num_outputs + num_out
            if isinstance(layers[name], nn.Linear):
                widths = (num_inputs, num_outputs)
        return cls(inputs, outputs, *widths, num_inputs, num_outputs)

    def widths(self, names: Iterable[str]) -> tuple[int, int]:
        """The columns, of inputs and of outputs, in the tensors of an adapter that changes these layers."""
        if all(self.inputs[name].stop <= self.num_linear_inputs for name in names):
            return self.num_linear_inputs, self.num_linear_outputs
        return self.num_inputs, self.num_outputs


def width(layer: Any) -> tuple[int, int]:
    """The rows and columns of a layer's weight as a matrix: outputs, and inputs with the places of a kernel."""
    return layer.weight.shape[0], layer.weight[0].numel()
