# SPDX-License-Identifier: Apache-2.0
"""The computed memory: tensors that are alive at once count; views and attention's scores do not."""

import torch
from diffusion_engine.memory_estimate import counting
from torch.nn import functional

ONE = 2 * 1024  # bytes of 1024 numbers in fp16


def empty(*shape: int) -> torch.Tensor:
    return torch.empty(shape, dtype=torch.float16, device="meta")


def test_freed_tensors_and_views_do_not_count() -> None:
    with counting() as counted:
        first = empty(1024)
        second = first + 1
        del first
        third = second.view(32, 32).T + 1
        del second
        assert counted.peak == 2 * ONE
        held = [empty(1024), empty(1024)]
        assert counted.peak == 3 * ONE
        assert (third.shape, len(held)) == ((32, 32), 2)


def test_attention_keeps_no_scores() -> None:
    with counting() as counted:
        query = empty(1, 1, 4096, 64)
        result = functional.scaled_dot_product_attention(query, query, query)
    assert result.shape == query.shape
    assert counted.peak == 2 * query.numel() * torch.float16.itemsize


def test_weights_are_not_counted() -> None:
    layer = torch.nn.Linear(64, 64, bias=False, device="meta", dtype=torch.float16)
    with counting() as counted:
        layer(empty(1, 64))
    assert counted.peak == 2 * 2 * 64
