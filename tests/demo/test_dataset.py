# SPDX-License-Identifier: Apache-2.0
"""Shards are complete or missing, and the same each time they are drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from demo import dataset

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset, "LAYOUT", (((64, 64), 4), ((96, 64), 2)))


def test_shard_returns_drawn_scenes(tmp_path: Path):
    dataset.draw_shard(1, folder=tmp_path, seed=3)
    shard = dataset.open_shard(tmp_path, 1)
    assert shard.pictures.shape == (2, 64, 96, 3)
    assert shard.scribble(0, 2).shape == (64, 96)
    assert set(np.unique(shard.scribble(0, 0))) <= {0, 1}
    assert len(shard.captions) == 2
    assert len(shard.captions[0]) == dataset.CAPTIONS_PER_SCENE


def test_two_drawings_of_shard_are_equal(tmp_path: Path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        dataset.draw_shard(0, folder=tmp_path / name, seed=3)
    first, second = (dataset.open_shard(tmp_path / name, 0) for name in ("a", "b"))
    assert (first.pictures == second.pictures).all()
    assert first.captions == second.captions


def test_shard_without_captions_is_incomplete_and_drawn_again(tmp_path: Path):
    dataset.draw_shard(0, folder=tmp_path, seed=3)
    captions = dataset.shard_path(tmp_path, 0, "captions.json")
    captions.unlink()
    assert dataset.complete_shards(tmp_path) == []
    dataset.draw_shard(0, folder=tmp_path, seed=3)
    assert dataset.complete_shards(tmp_path) == [0]
