# SPDX-License-Identifier: Apache-2.0
"""Weights in training: drawn cells count more, and scenes with drawn details are more frequent."""

from __future__ import annotations

import numpy as np
import pytest

from demo.dataset import CELL, Shard, cells

torch = pytest.importorskip("torch")


def shard_of_two() -> Shard:
    """A bare scene, and one with a detail of two cells. A stroke goes through one of them."""
    details = np.zeros((2, 4, 4), bool)
    details[1, 1, 1:3] = True
    strokes = np.zeros((2, 1, 4 * CELL, 4 * CELL), np.uint8)
    strokes[:, 0, CELL, CELL] = 1
    strokes[:, 0, 0, 0] = 1  # an outline, in no detail
    return Shard(
        np.zeros((2, 4 * CELL, 4 * CELL, 3), np.uint8),
        np.packbits(strokes.reshape(2, 1, -1), -1),
        details,
        np.zeros((2, 4, 4), np.uint8),
        [],
    )


def test_cells_with_a_stroke_count_more_and_drawn_details_most() -> None:
    from demo.batches import cell_weights

    shard = shard_of_two()
    ((bare,),) = cell_weights(shard.scribble(0, 0)[None], shard.details[:1], 4.0)
    assert bare[1, 1] == bare[0, 0] == 5
    assert np.count_nonzero(bare != 1) == 2
    shard.details[1, 3, 3] = True  # not drawn: no stroke is near
    ((detailed,),) = cell_weights(shard.scribble(1, 0)[None], shard.details[1:], 4.0)
    assert (detailed[0, 0], detailed[1, 1], detailed[1, 2]) == (5, 9, 5)  # an outline, a detail's stroke, and beside it
    assert np.count_nonzero(detailed != 1) == 3


def test_scene_with_drawn_details_is_more_frequent_than_bare_scene() -> None:
    from demo.batches import BARE_SHARE, drawn_shares

    bare, detailed = drawn_shares(shard_of_two())
    assert bare + detailed == pytest.approx(1)
    assert detailed / bare == pytest.approx((BARE_SHARE + 2) / BARE_SHARE)  # all of the drawn cells: twice the mean


def test_cell_is_set_if_any_of_its_pixels_is() -> None:
    pixels = np.zeros((2, 2 * CELL, 2 * CELL), bool)
    pixels[1, CELL - 1, CELL] = True
    assert cells(pixels).tolist() == [[[False, False], [False, False]], [[False, True], [False, False]]]
