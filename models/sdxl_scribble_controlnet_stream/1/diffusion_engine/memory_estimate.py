# SPDX-License-Identifier: Apache-2.0
"""Computes the memory of passes and of decoding without running them.

The networks are called with tensors that have a shape but no data (torch's `meta` device). All tensors that are alive
at once count. Attention counts as if it kept no scores, as on GPUs. CUDA itself, cuDNN and fragmentation come on top.
"""

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

Size = tuple[int, int]  # width, height


class CountedMemory(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of all tensors that are made in this mode and alive at once."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = 0
        self._now = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        options = options or {}
        inputs = {each.untyped_storage()._cdata for each in tree_leaves((arguments, options)) if is_tensor(each)}
        result = function(*arguments, **options)
        for each in tree_leaves(result):
            # Otherwise it is a view, for example of a weight.
            if is_tensor(each) and each.untyped_storage()._cdata not in inputs:
                self._count(each.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:
            return
        self._known.add(key)
        self._now += size
        self.peak = max(self.peak, self._now)
        weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._known.discard(key)
        self._now -= size


class WithoutScores(TorchFunctionMode):
    """Makes attention allocate its result only."""

    def __torch_function__(self, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        if function is nn.functional.scaled_dot_product_attention:
            query = arguments[0] if arguments else options["query"]
            return torch.empty_like(query)
        return function(*arguments, **(options or {}))


@contextmanager
def counting() -> Iterator[CountedMemory]:
    with torch.no_grad(), WithoutScores(), CountedMemory() as counted:
        yield counted


def is_tensor(value: object) -> bool:
    return isinstance(value, torch.Tensor)


def without_data(network: Any) -> Any:
    """A network of diffusers with the same config and dtype, but without data."""
    with torch.device("meta"):
        empty = type(network).from_config(network.config)
    return nn.Module.to(empty.eval(), network.dtype)  # diffusers' own `to` logs a warning


def pass_bytes(unet: Any, controlnet: Any, size: Size, num_rows: int, *, scale_factor: int) -> int:
    """The peak of a pass with the ControlNet in every row, including its inputs.

    Args:
        unet, controlnet: without data. The ControlNet gets its scribble embedded.
        scale_factor: the width of a latent cell in pixels.
    """
    config = unet.config
    width, height = (side // scale_factor for side in size)
    pooled = (config.projection_class_embeddings_input_dim or 0) - 6 * (config.addition_time_embed_dim or 0)

    def empty(*shape: int) -> torch.Tensor:
        return torch.empty((num_rows, *shape), dtype=unet.dtype, device="meta")

    controlnet.controlnet_cond_embedding = nn.Identity()  # as in the engine, which computes it once
    with counting() as counted:
        latents, timesteps, text = empty(config.in_channels, height, width), empty(), empty(77, text_width(config))
        added = {"text_embeds": empty(pooled), "time_ids": empty(6)}
        control = empty(controlnet.config.block_out_channels[0], height, width)
        down, mid = controlnet(
            latents, timesteps, text, controlnet_cond=control, added_cond_kwargs=added, return_dict=False
        )
        unet(
            latents,
            timesteps,
            text,
            timestep_cond=empty(config.time_cond_proj_dim) if config.time_cond_proj_dim else None,
            added_cond_kwargs=added,
            down_block_additional_residuals=down,
            mid_block_additional_residual=mid,
            return_dict=False,
        )
    return counted.peak


def text_width(config: Any) -> int:
    """The width of the text embeddings that a UNet takes."""
    widths = config.cross_attention_dim
    return int(widths if isinstance(widths, int) else widths[0])


def decode_bytes(vae: Any, size: Size, *, scale_factor: int) -> int:
    """The peak of decoding one picture. The VAE has no data."""
    width, height = (side // scale_factor for side in size)
    with counting() as counted:
        latents = torch.empty((1, vae.config.latent_channels, height, width), dtype=vae.dtype, device="meta")
        vae.decode(latents, return_dict=False)
    return counted.peak


def weight_bytes(*networks: nn.Module) -> int:
    return sum(each.numel() * each.element_size() for network in networks for each in network.parameters())
