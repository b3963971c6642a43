# SPDX-License-Identifier: Apache-2.0
"""Seeds that the frontend draws, so that a request gets the same response each time it runs."""

import secrets
from typing import Any

FIELD = "seed"
# JavaScript can represent integers of up to 53 bits.
MAX_BITS = 53


def is_missing(seed: Any) -> bool:
    """Whether the model would draw the seed itself."""
    return seed is None or seed == -1


def draw(bits: int = MAX_BITS, *, count: int = 1) -> int:
    """The first of `count` consecutive seeds of at most this many bits."""
    return secrets.randbelow(2 ** min(bits, MAX_BITS) - count + 1)
