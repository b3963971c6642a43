# SPDX-License-Identifier: Apache-2.0
"""Rows with texts of unequal length in one pass."""

from typing import Any

import pytest
import torch
from diffusion_engine.text_rows import groups, joined


@pytest.mark.parametrize(
    ("lengths", "expected"),
    [
        ([1, 1, 1], [[0, 1, 2]]),
        ([1, 2, 1, 3, 4], [[0, 1, 2, 3, 4]]),
        ([5, 1, 7, 5], [[2, 1], [0, 3]]),
        ([16, 16], [[0, 1]]),
        ([15, 16, 1], [[1, 2], [0]]),
    ],
)
def test_rows_that_share_a_pass(lengths: list[int], expected: list[list[int]]) -> None:
    assert [set(group) for group in groups([77 * each for each in lengths])] == [set(group) for group in expected]


def test_texts_get_the_least_common_multiple_of_their_lengths() -> None:
    short, long = torch.randn(1, 2, 5), torch.randn(1, 3, 5)
    found = joined([short, long, short])
    assert found.shape == (3, 6, 5)
    assert torch.equal(found[0], torch.cat([short[0]] * 3))
    assert torch.equal(found[1], torch.cat([long[0]] * 2))


def test_repeated_text_gives_the_same_noise(pipeline: Any) -> None:
    torch.manual_seed(0)
    config = pipeline.unet.config
    text, latents = torch.randn(1, 77, config.cross_attention_dim), torch.randn(1, config.in_channels, 16, 16)
    pooled = torch.randn(1, pipeline.text_encoder_2.config.projection_dim)
    conditions = {"text_embeds": pooled, "time_ids": torch.tensor([[128.0, 128, 0, 0, 128, 128]])}
    with torch.inference_mode():
        once, often = (
            pipeline.unet(latents, 500, encoder_hidden_states=each, added_cond_kwargs=conditions, return_dict=False)[0]
            for each in (text, text.repeat(1, 12, 1))
        )
    torch.testing.assert_close(once, often, rtol=1e-4, atol=1e-5)
