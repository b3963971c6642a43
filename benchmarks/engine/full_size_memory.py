# SPDX-License-Identifier: Apache-2.0
"""Compute the memory that SDXL with its scribble ControlNet needs in fp16 or bf16, without loading weights.

The real networks are called with tensors that have a shape but no data (torch's meta device). Every tensor that they
make counts until it is freed. Attention counts as if it kept no scores, as on GPUs. cuDNN's workspace, CUDA itself and
fragmentation come on top.
"""

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from benchmarks.engine.random_weights import ARCHITECTURE

SIZES = ((1024, 1024), (1216, 832), (1344, 768), (768, 768), (512, 512))
ROWS = (2, 4, 8, 16)
GIB = 1024**3
DTYPE = torch.float16


class Counted(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of all tensors that are empty_network in this mode and alive at once."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.most = 0
        self._now = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        options = options or {}
        inputs = {each.untyped_storage()._cdata for each in tree_leaves((arguments, options)) if is_tensor(each)}
        result = function(*arguments, **options)
        for each in tree_leaves(result):
            if (
                is_tensor(each) and each.untyped_storage()._cdata not in inputs
            ):  # otherwise it is a view, for example of a weight
                self._count(each.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:
            return
        self._known.add(key)
        self._now += size
        self.most = max(self.most, self._now)
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
def counting() -> Iterator[Counted]:
    with torch.no_grad(), WithoutScores(), Counted() as counted:
        yield counted


def is_tensor(value: object) -> bool:
    return isinstance(value, torch.Tensor)


def empty_network(of_class: Any, name: str) -> Any:
    config = ARCHITECTURE[name]
    with torch.device("meta"):
        network = of_class(CLIPTextConfig(**config)) if name.startswith("text") else of_class.from_config(config)
    return network.to(DTYPE).eval()


def empty(*shape: int) -> torch.Tensor:
    return torch.empty(shape, dtype=DTYPE, device="meta")


def pass_bytes(unet: Any, controlnet: Any, size: tuple[int, int], num_rows: int) -> int:
    """The peak of a pass with the ControlNet in every row, including its inputs."""
    width, height = (side // 8 for side in size)
    with counting() as counted:
        latents, timesteps = empty(num_rows, 4, height, width), empty(num_rows)
        text = empty(num_rows, 77, 2048)
        added = {"text_embeds": empty(num_rows, 1280), "time_ids": empty(num_rows, 6)}
        control = empty(num_rows, 320, height, width)
        down, mid = controlnet(
            latents, timesteps, text, controlnet_cond=control, added_cond_kwargs=added, return_dict=False
        )
        unet(
            latents,
            timesteps,
            text,
            added_cond_kwargs=added,
            down_block_additional_residuals=down,
            mid_block_additional_residual=mid,
            return_dict=False,
        )
    return counted.most


def decode_bytes(vae: Any, size: tuple[int, int]) -> int:
    width, height = (side // 8 for side in size)
    with counting() as counted:
        vae.decode(empty(1, 4, height, width), return_dict=False)
    return counted.most


def num_bytes(network: nn.Module) -> int:
    return sum(parameter.numel() * parameter.element_size() for parameter in network.parameters())


def table(report: Callable[[str], None] = lambda _: None) -> list[str]:
    """The weights, then a Markdown table: by picture size, a pass by its rows, and one decoding."""
    controlnet = empty_network(ControlNetModel, "controlnet")
    networks = {
        "UNet": empty_network(UNet2DConditionModel, "unet"),
        "ControlNet": controlnet,
        "text encoder": empty_network(CLIPTextModel, "text_encoder"),
        "text encoder 2": empty_network(CLIPTextModelWithProjection, "text_encoder_2"),
        "VAE": empty_network(AutoencoderKL, "vae"),
    }
    parts = {name: num_bytes(network) / GIB for name, network in networks.items()}
    weights = sum(parts.values())
    listed = ", ".join(f"{name} {part:.2f}" for name, part in parts.items())
    controlnet.controlnet_cond_embedding = (
        nn.Identity()
    )  # as in the engine, which computes it once and not in each pass
    lines = [
        f"Weights {weights:.2f} GiB: {listed}.",
        "",
        "| size | " + " | ".join(f"{count} rows" for count in ROWS) + " | decoding | total, 2 rows |",
        "| --- |" + " ---: |" * (len(ROWS) + 2),
    ]
    for size in SIZES:
        passes = [pass_bytes(networks["UNet"], controlnet, size, count) / GIB for count in ROWS]
        decoding = decode_bytes(networks["VAE"], size) / GIB
        total = weights + max(passes[0], decoding)
        figures = " | ".join(f"{each:.2f}" for each in [*passes, decoding, total])
        lines.append(f"| {size[0]}x{size[1]} | {figures} |")
        report(lines[-1])
    return lines
