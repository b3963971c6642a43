# SPDX-License-Identifier: Apache-2.0
"""Gives rows with texts of unequal length one length, so that they can share a pass.

Attention over keys that are all repeated equally often equals attention over each key once. So a text of 77 tokens
beside one of 154 is repeated twice; no mask is needed.
"""

import math
from collections.abc import Sequence

import torch

# Texts are not repeated beyond this length, because each token costs time. Rows that need more run apart.
MAX_REPEATED_TOKENS = 12 * 77


def groups(lengths: Sequence[int]) -> list[list[int]]:
    """The indices of the rows that can share a pass, by the lengths of their texts."""
    common: list[int] = []  # the length that the texts of each group get
    by_length: dict[int, int] = {}
    for length in sorted(set(lengths), reverse=True):
        for group, other in enumerate(common):
            if math.lcm(length, other) <= max(other, MAX_REPEATED_TOKENS):
                common[group] = math.lcm(length, other)
                break
        else:
            group = len(common)
            common.append(length)
        by_length[length] = group
    return [[row for row, length in enumerate(lengths) if by_length[length] == group] for group in range(len(common))]


def joined(texts: Sequence[torch.Tensor]) -> torch.Tensor:
    """The texts of a group, each (1, S, D), as one tensor, (R, the least common multiple of all S, D)."""
    length = math.lcm(*(text.shape[1] for text in texts))
    return torch.cat(
        [text if text.shape[1] == length else text.repeat(1, length // text.shape[1], 1) for text in texts]
    )
