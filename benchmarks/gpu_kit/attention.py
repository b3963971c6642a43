# SPDX-License-Identifier: Apache-2.0
"""Part `attention`: the attention of SDXL's layers by backend, and whether PyTorch's default is the fastest."""

import torch
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.gpu_kit.bench import Bench

BACKENDS = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "math": SDPBackend.MATH,
}
# Heads, queries, keys: at 1024x1024, self-attention of both resolutions, and attention to the text.
LAYERS = ((10, 4096, 4096), (20, 1024, 1024), (10, 4096, 77))
TINY_LAYERS = ((2, 64, 64), (2, 64, 77))
SLOWER = 1.05
NUM_CALLS = 20  # timed together, because starting one and waiting for it takes longer than a small layer
LEAST_MS = 0.2  # of a layer that counts: smaller ones take no longer than their launch


def measure(bench: Bench) -> None:
    ratios: list[float] = []
    for rows in (2, 8):
        for heads, queries, keys in TINY_LAYERS if bench.plan.is_tiny else LAYERS:
            shape = f"{heads} heads, {queries} x {keys}"
            times = layer_times(bench, rows, heads, queries, keys)
            bench.row(rows=rows, layer=shape, **{f"{name}_ms": ms for name, ms in times.items()})
            if times["default"] > LEAST_MS:
                ratios.append(times["default"] / min(times.values()))
    if ratios:
        is_fast = max(ratios) <= SLOWER
        follows = "Keep the default." if is_fast else "Set the order with `sdpa_kernel(..., set_priority=True)`."
        measured = f"the default takes at most {max(ratios):.2f} times as long as the fastest backend"
        bench.decide("Q7 attention", measured=measured, follows=follows)


@torch.inference_mode()
def layer_times(bench: Bench, rows: int, heads: int, queries: int, keys: int) -> dict[str, float]:
    """Milliseconds by backend, of those that support the layer."""
    options = {"device": bench.device, "dtype": getattr(torch, bench.plan.dtype)}
    query = torch.randn(rows, heads, queries, 64, **options)
    key, value = torch.randn(2, rows, heads, keys, 64, **options)

    def attend() -> None:
        for _ in range(NUM_CALLS):
            functional.scaled_dot_product_attention(query, key, value)

    times = {"default": bench.milliseconds(attend) / NUM_CALLS}
    for name, backend in BACKENDS.items():
        try:
            with sdpa_kernel(backend):
                times[name] = bench.milliseconds(attend) / NUM_CALLS
        except RuntimeError:  # this backend does not support the layer here
            continue
    return times
