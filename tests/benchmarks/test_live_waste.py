# SPDX-License-Identifier: Apache-2.0
"""The arithmetic of benchmarks/live."""

import pytest

from benchmarks.live.__main__ import wasted
from benchmarks.live.drawing import Lift


def test_passes_of_finished_drafts_and_known_steps_are_not_wasted() -> None:
    pairs = [Lift(100, None, None), Lift(120, 400, 2), Lift(90, 350, None), Lift(95, 360, None)]
    # Three drafts of four steps were finished. One was superseded after two known steps, and had three passes.
    assert wasted(pairs, passes=3 * 4 + 3, steps=4) == (pytest.approx(1.0), 1)
