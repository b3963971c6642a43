# SPDX-License-Identifier: Apache-2.0
"""The adapters of the rows of a pass, as tensors."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import torch

from diffusion_engine.loras.adapter import Adapter

# The adapters of one request, with their scales.
ScaledAdapters = tuple[tuple[Adapter, float], ...]


class AdapterBatch(NamedTuple):
    """The adapters of the first L rows of a pass; its other rows have none. D combinations, of at most rank r."""

    down: torch.Tensor  # (D, r, I), with I columns of a `Layout`
    up: torch.Tensor  # (D, r, O), with the scales
    which: torch.Tensor  # (L,) the combination of each row
    has_convolutions: bool

    def of_layer(self, inputs: slice, outputs: slice) -> tuple[torch.Tensor, torch.Tensor]:
        """The matrices of a layer for each row with adapters: (L, r, in) and (L, r, out)."""
        down, up = self.down[:, :, inputs], self.up[:, :, outputs]
        return down.index_select(0, self.which), up.index_select(0, self.which)

    def rows(self, tensor: torch.Tensor) -> torch.Tensor:
        """The rows with adapters, as a view."""
        return tensor[: self.which.shape[0]]


@dataclass(frozen=True, slots=True)
class AdapterStack:
    """The adapters of a pass, whatever its rows are."""

    combinations: Sequence[ScaledAdapters]
    down: torch.Tensor
    up: torch.Tensor
    has_convolutions: bool

    @classmethod
    def of(cls, combinations: Sequence[ScaledAdapters]) -> Self:
        # Those without convolutions have fewer columns.
        widest = max((adapter for each in combinations for adapter, _ in each), key=lambda each: each.down.shape[1])
        rank = max(sum(adapter.rank for adapter, _ in each) for each in combinations)
        down = widest.down.new_zeros(len(combinations), rank, widest.down.shape[1])
        up = widest.up.new_zeros(len(combinations), rank, widest.up.shape[1])
        for index, combination in enumerate(combinations):
            start = 0
            for adapter, scale in combination:
                stop = start + adapter.rank
                down[index, start:stop, : adapter.down.shape[1]] = adapter.down
                torch.mul(adapter.up, scale, out=up[index, start:stop, : adapter.up.shape[1]])
                start = stop
        return cls(combinations, down, up, widest.has_convolutions)

    def batch(self, adapters: Sequence[ScaledAdapters]) -> AdapterBatch | None:
        """The batch of rows with these adapters; None if there are none. Rows without adapters must be the last."""
        which = [self.combinations.index(each) for each in adapters if each]
        if not which:
            return None
        on_device = torch.tensor(which).to(self.down.device, non_blocking=True)
        return AdapterBatch(self.down, self.up, on_device, self.has_convolutions)


class AdapterStacks:
    """Makes the stacks of passes. Keeps the last one, because the requests of the next pass often have the same."""

    def __init__(self) -> None:
        self._last: tuple[set[ScaledAdapters], AdapterStack] | None = None

    def clear(self) -> None:
        """Free the memory of the last stack."""
        self._last = None

    def stack(self, combinations: set[ScaledAdapters]) -> AdapterStack | None:
        """The stack of a pass with these combinations; None if it has no adapters."""
        combinations = combinations - {()}
        if not combinations:
            return None
        if self._last is None or self._last[0] != combinations:
            self._last = None  # frees its memory before the next one takes it
            self._last = (combinations, AdapterStack.of(list(combinations)))
        return self._last[1]
