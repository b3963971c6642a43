# SPDX-License-Identifier: Apache-2.0
"""Attention for training on a CPU, where the backward pass of torch's fused attention is slow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from diffusers.models.attention_processor import Attention

    from demo.bundle import Bundle


class HalfSoftmax:
    """diffusers' `AttnProcessor`, but autocast leaves the softmax in bf16, which halves its memory."""

    def __call__(
        self,
        attn: Attention,
        hidden_states: torch.Tensor,  # (B, S, D)
        encoder_hidden_states: torch.Tensor | None = None,  # (B, T, C) for cross-attention
        **_: Any,
    ) -> torch.Tensor:
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        query = attn.head_to_batch_dim(attn.to_q(hidden_states)) * attn.scale
        key = attn.head_to_batch_dim(attn.to_k(context))
        value = attn.head_to_batch_dim(attn.to_v(context))
        mixed = attn.batch_to_head_dim(torch.bmm(self.shares(query, key), value))
        return attn.to_out[0](mixed)  # type: ignore[no-any-return]

    def shares(self, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
        """(B * heads, S, T)."""
        scores = torch.bmm(query, key.transpose(1, 2))
        with torch.autocast("cpu", enabled=False):
            return scores.softmax(-1)


def use_training_attention(bundle: Bundle) -> None:
    bundle.unet.set_attn_processor(HalfSoftmax())
    bundle.controlnet.set_attn_processor(HalfSoftmax())
    for encoder in (bundle.text_encoder, bundle.text_encoder_2):
        encoder.set_attn_implementation("eager")
