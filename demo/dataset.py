# SPDX-License-Identifier: Apache-2.0
"""Scenes on disk: shards of pictures, scribbles and captions. A shard depends on its seed and number only."""

from __future__ import annotations

import json
import logging
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from benchmarks.common.measurement_lock import wait_for_measurements
from demo.phrases import Caption, Phrase
from demo.phrases import regions as regions_of
from demo.scenes import draw_scene
from demo.styles import STYLES, stylised

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from demo.pixels import Mask, Pixels

logger = logging.getLogger(__name__)

SCRIBBLES_PER_SCENE = 3
CAPTIONS_PER_SCENE = 2
# (width, height) and number of scenes, for the shards in turn. Several sizes make the networks independent of one.
LAYOUT: tuple[tuple[tuple[int, int], int], ...] = (
    ((128, 128), 800),
    ((256, 256), 600),
    ((256, 256), 600),
    ((160, 128), 500),
    ((256, 256), 600),
    ((256, 256), 400),
    ((192, 192), 500),
    ((128, 128), 800),
    ((128, 160), 500),
    ((256, 192), 400),
    ((128, 128), 800),
    ((192, 256), 400),
)
PORTRAITS = (5, 10)  # indices in `LAYOUT` of shards with portraits, see `draw_scene`
STYLED_EVERY = 8  # scenes of which one has a stylised picture too, for the VAE
ARRAYS = ("pictures", "scribbles", "details", "regions")
STYLE_SHARDS = 4  # of each style: about 2500 scenes
CELL = 4  # pixels of a latent's side
BYTES_PER_PIXEL = 4.5  # of a picture with its stylised picture, scribbles, regions and latents


@dataclass(frozen=True, slots=True)
class Shard:
    """The memory-mapped arrays of a shard, and its captions."""

    pictures: Pixels  # (N, H, W, 3)
    scribbles: Pixels  # (N, SCRIBBLES_PER_SCENE, H * W / 8), packed bits
    details: Mask  # (N, H / CELL, W / CELL), the latent's cells that hold a detail
    regions: Pixels  # (N, H / CELL, W / CELL), the label in the middle of the latent's cells, see `phrases`
    captions: list[list[Caption]]  # N x CAPTIONS_PER_SCENE

    def scribble(self, index: int, variant: int) -> Pixels:
        """(H, W) of 0 and 1."""
        height, width = self.pictures.shape[1:3]
        return np.unpackbits(self.scribbles[index, variant]).reshape(height, width)


def shard_path(folder: Path, number: int, what: str) -> Path:
    return folder / f"{number:05d}.{what}"


def style_folder(work: Path, style: str) -> Path:
    """The folder of the scenes in a style, beside those of the plain scenes."""
    return work / f"scenes-{style}"


def is_portrait(number: int) -> bool:
    return number % len(LAYOUT) in PORTRAITS


def cells(pixels: Pixels | Mask) -> Mask:
    """(…, H, W) → (…, H / CELL, W / CELL): whether any pixel of a cell is set."""
    *many, height, width = pixels.shape
    found: Mask = pixels.reshape(*many, height // CELL, CELL, width // CELL, CELL).any((-3, -1))
    return found


def draw_shard(number: int, *, folder: Path, seed: int, style: str | None = None) -> None:
    """Draw a shard, in a style if one is given, unless it exists. Its captions are written last and complete it."""
    captions_path = shard_path(folder, number, "captions.json")
    size, count = LAYOUT[number % len(LAYOUT)]
    if captions_path.exists():
        return
    width, height = size
    pictures = np.empty((count, height, width, 3), np.uint8)
    scribbles = np.empty((count, SCRIBBLES_PER_SCENE, width * height // 8), np.uint8)
    details = np.empty((count, height // CELL, width // CELL), bool)
    regions = np.empty((count, height // CELL, width // CELL), np.uint8)
    captions, styled = [], []
    for index in range(count):
        wait_for_measurements()
        rng = np.random.default_rng([seed, number, index])
        scene = draw_scene(rng, size, is_portrait=is_portrait(number))
        pictures[index] = stylised(scene, style, rng) if style else scene.picture
        details[index] = cells(scene.details)
        regions[index] = regions_of(scene)[CELL // 2 :: CELL, CELL // 2 :: CELL]
        for variant in range(SCRIBBLES_PER_SCENE):
            scribbles[index, variant] = np.packbits(scene.scribble(rng) > 0)
        captions.append([asdict(scene.caption(rng)) for _ in range(CAPTIONS_PER_SCENE)])
        if index % STYLED_EVERY == 0 and not style:
            styled.append(stylised(scene, str(rng.choice(list(STYLES))), rng))
    if styled:
        np.save(shard_path(folder, number, "styled.npy"), np.stack(styled))
    for what, values in zip(ARRAYS, (pictures, scribbles, details, regions), strict=True):
        np.save(shard_path(folder, number, f"{what}.npy"), values)
    partial_path = captions_path.with_suffix(".part")
    partial_path.write_text(json.dumps(captions))
    partial_path.replace(captions_path)


def draw_shards(folder: Path, *, shards: int, seed: int, processes: int, style: str | None = None) -> None:
    """Draw the shards below `shards` that do not exist yet."""
    folder.mkdir(parents=True, exist_ok=True)
    missing = [n for n in range(shards) if not shard_path(folder, n, "captions.json").exists()]
    if not missing:
        return
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with ProcessPoolExecutor(processes) as pool, tqdm(total=len(missing), desc=style or "scenes", unit="shard") as bar:
        for _ in pool.map(partial(draw_shard, folder=folder, seed=seed, style=style), missing):
            bar.update()


def open_array(folder: Path, number: int, what: str) -> npt.NDArray[Any]:
    """One memory-mapped array of a shard: of `ARRAYS`, or "styled", (N, H, W, 3) stylised pictures."""
    array: npt.NDArray[Any] = np.load(shard_path(folder, number, f"{what}.npy"), mmap_mode="r")
    return array


def open_shard(folder: Path, number: int) -> Shard:
    wordings = json.loads(shard_path(folder, number, "captions.json").read_text())
    captions = [[Caption(w["text"], tuple(Phrase(**p) for p in w["phrases"])) for w in each] for each in wordings]
    pictures, scribbles, details, regions = (open_array(folder, number, what) for what in ARRAYS)
    return Shard(pictures, scribbles, details, regions, captions)


def missing_bytes(folder: Path, shards: int) -> int:
    """What the shards below `shards` that do not exist yet will take on the disk."""
    missing = [n for n in range(shards) if not shard_path(folder, n, "captions.json").exists()]
    layouts = (LAYOUT[n % len(LAYOUT)] for n in missing)
    return round(sum(BYTES_PER_PIXEL * count * width * height for (width, height), count in layouts))


def complete_shards(folder: Path) -> list[int]:
    return sorted(int(path.name.split(".")[0]) for path in folder.glob("*.captions.json"))
