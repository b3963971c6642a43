# SPDX-License-Identifier: Apache-2.0
"""A loss that binds words to objects: pixels attend to the phrase that describes them, and to no other phrase.

The denoising loss alone learns this last. Until then, all objects have a mixture of the colours in the caption. The
scenes know which phrase describes which pixel, so the cross-attention is trained directly, as in TokenCompose (Wang et
al., CVPR 2024, arXiv:2312.03626).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from diffusers.models.attention_processor import Attention

from demo.attention import HalfSoftmax
from demo.phrases import UNLABELLED

if TYPE_CHECKING:
    from demo.batches import Batch
    from demo.bundle import Bundle

LAYERS = ("mid_block", "up_blocks")  # of the UNet; before them, the networks do not know yet what is drawn
SMALLEST = 1e-4  # attention


class Grounding:
    """Watches the UNet's cross-attention from `watch` until `loss`. At other times, the networks can be copied."""

    def __init__(self, bundle: Bundle) -> None:
        self.batch: Batch | None = None
        self._losses: list[torch.Tensor] = []
        for name, module in bundle.unet.named_modules():
            if isinstance(module, Attention) and module.is_cross_attention and name.startswith(LAYERS):
                module.set_processor(_Watched(self))

    def watch(self, batch: Batch) -> None:
        self.batch, self._losses = batch, []

    def loss(self) -> torch.Tensor:
        """The mean of the layers since `watch`."""
        losses, self._losses, self.batch = self._losses, [], None
        return torch.stack(losses).mean()

    def look(self, shares: torch.Tensor) -> None:
        """(B * heads, pixels, S) attention of one layer."""
        if self.batch:
            of_heads = shares.view(len(self.batch.labels), -1, *shares.shape[1:]).mean(1)
            self._losses.append(grounding_loss(of_heads, self.batch.labels, self.batch.regions))


class _Watched(HalfSoftmax):
    def __init__(self, grounding: Grounding) -> None:
        self._grounding = grounding

    def shares(self, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
        shares = super().shares(query, key)
        self._grounding.look(shares)
        return shares


def grounding_loss(shares: torch.Tensor, labels: torch.Tensor, regions: torch.Tensor) -> torch.Tensor:
    """Minus the logarithm of the share of a pixel's own phrase in its attention to all phrases, on average.

    Args:
        shares: (B, pixels, S) attention of the pixels to the tokens. Their grid may be coarser than `regions`.
        labels: (B, S) of the tokens' phrases.
        regions: (B, h, w) labels. Pixels whose label no token has do not count.
    """
    height, width = regions.shape[1:]
    factor = round((height * width / shares.shape[1]) ** 0.5)
    coarse = regions[:, factor // 2 :: factor, factor // 2 :: factor].flatten(1)  # (B, pixels)
    is_own = coarse[..., None] == labels[:, None]  # (B, pixels, S)
    own = (shares * is_own).sum(-1).float()
    phrases = (shares * (labels != UNLABELLED)[:, None]).sum(-1).float()
    counted = is_own.any(-1)
    loss = torch.log(phrases + SMALLEST) - torch.log(own + SMALLEST)
    return (loss * counted).sum() / counted.sum().clamp(min=1)
