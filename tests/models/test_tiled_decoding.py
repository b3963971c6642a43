# SPDX-License-Identifier: Apache-2.0
"""Large pictures are decoded in tiles, as by diffusers' own `enable_tiling`; others if memory runs out."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from diffusion_engine.memory_plan import MemoryPlan
from diffusion_engine.networks import Networks
from diffusion_engine.vae_tiles import NOTE
from listening import Driver
from stock import StockPipeline

MakeDriver = Callable[..., Driver]
LARGE = {"width": 192, "height": 192, "num_inference_steps": 2, "seed": 3}
SMALL = {"width": 128, "height": 128, "num_inference_steps": 2, "seed": 4}


@contextmanager
def tiling(pipeline: Any) -> Iterator[None]:
    pipeline.vae.enable_tiling()
    try:
        yield
    finally:
        pipeline.vae.disable_tiling()


def test_large_sizes_are_tiled_as_by_diffusers(
    make_driver: MakeDriver, networks: Networks, stock: StockPipeline, pipeline: Any
) -> None:
    """Beside a request with guidance of the same size, and one that fits into a tile."""
    driver = make_driver(networks=replace(networks, memory=MemoryPlan(tiled_sizes=frozenset({(192, 192)}))))
    values = [LARGE, {**LARGE, "seed": 5, "guidance_scale": 1.0, "num_inference_steps": 3}, SMALL]
    submitted = [driver.join(**each) for each in values]
    driver.finish()
    with tiling(pipeline):
        expected = [stock.pixels(**each) for each in values]
    for one, pixels in zip(submitted, expected, strict=True):
        assert np.abs(one.pixels() - pixels).max() <= 1
    assert np.abs(submitted[0].pixels() - stock.pixels(**LARGE)).max() > 1  # tiles do change pixels
    assert driver.engine.describe()["engine"]["tiled_sizes"] == ["192x192"]
    infos = [one.picture().info for one in submitted]
    assert [info.get("vae_tiling", False) for info in infos] == [True, True, False]
    assert infos[0]["notes"] == []


def out_of_memory(_: object, **__: object) -> Any:
    raise torch.OutOfMemoryError("CUDA out of memory")


def without_memory(networks: Networks, *, in_tiles: bool = False) -> Networks:
    class Tiled:
        tile_sample_min_size = 128
        decode = staticmethod(out_of_memory)

    return replace(networks, vae_decode=out_of_memory, tiled_vae=Tiled if in_tiles else networks.tiled_vae)


def test_picture_is_tiled_if_memory_runs_out(
    make_driver: MakeDriver, networks: Networks, stock: StockPipeline, pipeline: Any
) -> None:
    driver = make_driver(networks=without_memory(networks))
    one = driver.join(**LARGE)
    driver.finish()
    with tiling(pipeline):
        assert np.abs(one.pixels() - stock.pixels(**LARGE)).max() <= 1
    info = one.picture().info
    assert info["notes"] == [NOTE]
    assert info["vae_tiling"] is True


def test_request_fails_if_tiles_need_too_much_memory_or_would_change_its_pixels(
    make_driver: MakeDriver, networks: Networks
) -> None:
    driver = make_driver(networks=without_memory(networks, in_tiles=True))
    one = driver.join(**LARGE)
    driver.finish()
    assert one.error().code == "out_of_memory"
    for values in ({**LARGE, "reproducible": True}, SMALL):  # the small picture is one tile
        driver = make_driver(networks=without_memory(networks))
        one = driver.join(**values)
        driver.finish()
        assert one.error().code == "out_of_memory"
