# SPDX-License-Identifier: Apache-2.0
"""`python -m demo.evaluate`: draw unseen cases with a checkpoint, measure them, and write sheets and figures."""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from collections import defaultdict
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from diffusers import StableDiffusionXLControlNetPipeline
from diffusers.utils import logging as diffusers_logging
from tqdm import tqdm

from demo import measures
from demo.backgrounds import scene as paint_scene
from demo.cases import SEVEN_SCENES, Case, all_cases
from demo.samples import generate
from demo.sheet import contact_sheet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

logger = logging.getLogger("demo.evaluate")

HERE = Path(__file__).parent
CHECKPOINT = HERE.parent / "models" / "sdxl_scribble_controlnet_stream" / "1" / "demo_checkpoint"
BATCH = 8
Pictures = list[np.ndarray]
Figures = dict[str, Any]


def load(folder: Path) -> tuple[StableDiffusionXLControlNetPipeline, dict[str, Any]]:
    if not (folder / "model_index.json").exists():
        message = f"{folder} is not a checkpoint folder: it has no model_index.json"
        raise FileNotFoundError(message)
    # Without the dtype, transformers would keep the file's fp16, and the first call would fail on mixed dtypes.
    pipe = StableDiffusionXLControlNetPipeline.from_pretrained(folder, torch_dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    serving = folder / "serving.json"
    return pipe, json.loads(serving.read_text())["defaults"] if serving.exists() else {}


def batches(cases: Sequence[Case]) -> Iterator[list[int]]:
    groups: dict[tuple[Any, ...], list[int]] = defaultdict(list)
    for index, case in enumerate(cases):
        groups[(*case.scribble.shape, case.scale)].append(index)
    for (height, width, _), members in groups.items():
        count = max(1, BATCH * 128 * 128 // (height * width))
        yield from (members[start : start + count] for start in range(0, len(members), count))


def draw(pipe: StableDiffusionXLControlNetPipeline, cases: Sequence[Case], *, steps: int, guidance: float) -> Pictures:
    pictures: dict[int, np.ndarray] = {}
    with tqdm(total=len(cases), desc="pictures") as bar:
        for members in batches(cases):
            chosen = [cases[i] for i in members]
            drawn = generate(
                pipe,
                [c.prompt for c in chosen],
                [c.scribble for c in chosen],
                seeds=[c.seed for c in chosen],
                steps=steps,
                guidance=guidance,
                scale=chosen[0].scale,
            )
            pictures.update(zip(members, drawn, strict=True))
            bar.update(len(members))
    return [pictures[i] for i in range(len(cases))]


def share(values: Sequence[bool]) -> float:
    return round(float(np.mean(values)), 3) if values else 0.0


def measure_outline(cases: list[Case], pictures: Pictures) -> Figures:
    overlaps = np.array(
        [
            measures.iou(measures.object_region(p, c.scene.mask), c.scene.mask)
            for c, p in zip(cases, pictures, strict=True)
        ]
    )
    figures: Figures = {
        "cases": len(cases),
        "iou_mean": round(float(overlaps.mean()), 3),
        "iou_5th_percentile": round(float(np.percentile(overlaps, 5)), 3),
    }
    for label in ("shape", "pen", "style"):
        for value in sorted({c.labels.get(label, "") for c in cases} - {""}):
            chosen = [o for o, c in zip(overlaps, cases, strict=True) if c.labels[label] == value]
            figures[f"iou_{label}_{value}"] = round(float(np.mean(chosen)), 3)
    return figures | measure_colours(cases, pictures)


def measure_colours(cases: list[Case], pictures: Pictures) -> Figures:
    things, walls = [], []
    for case, picture in zip(cases, pictures, strict=True):
        tone, wall = case.scene.objects[0].subject.colour, case.scene.background.colours[0]
        things.append(measures.is_colour(measures.object_colour(picture, case.scene.mask), tone.name, tone.shade))
        walls.append(measures.is_colour(measures.background_colour(picture, case.scene.mask), wall.name, wall.shade))
    return {"object_colour_right": share(things), "background_colour_right": share(walls)}


def measure_details(cases: list[Case], pictures: Pictures) -> Figures:
    shown: dict[str, list[bool]] = defaultdict(list)
    chance: list[bool] = []
    for index, (case, picture) in enumerate(zip(cases, pictures, strict=True)):
        other = pictures[(index + 1) % len(pictures)]  # the same lines, measured on another picture
        for line, calm in detail_lines(case):
            shown[case.labels["noun"]].append(measures.shows_line(picture, line, calm))
            chance.append(measures.shows_line(other, line, calm))
    every = [value for values in shown.values() for value in values]
    by_noun = {f"visible_{noun}": share(values) for noun, values in sorted(shown.items())}
    return {"details": len(every), "visible": share(every), "visible_by_chance": share(chance)} | by_noun


def detail_lines(case: Case) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """For each drawn detail, the pixels of its line, and a plain part of the object to compare with."""
    shape = case.scribble.shape
    drawn = measures.dilate(case.scribble > 0, 4)
    calm = measures.erode(case.scene.mask, 4) & ~drawn
    for part in case.scene.objects[0].parts:
        if part.is_detail and part.is_drawn:
            line = measures.line_mask(part.points, shape, 3, closed=part.closed) & case.scene.mask
            if line.sum() > 8:
                yield line, calm


def measure_nouns(cases: list[Case], pictures: Pictures) -> Figures:
    figures: Figures = {}
    for tone in ("", "red "):
        chosen = [(c, p) for c, p in zip(cases, pictures, strict=True) if c.labels["tone"] == tone]
        found: dict[str, list[float]] = defaultdict(list)
        for (a, first), (b, second) in combinations(chosen, 2):
            if a.labels["circle"] == b.labels["circle"]:
                pair = f"{a.labels['noun']}_{b.labels['noun']}"
                found[pair].append(measures.difference(first, second, a.scene.mask))
        name = "same_colour" if tone else "no_colour_said"
        figures[f"levels_between_nouns_{name}"] = {pair: round(float(np.mean(v)), 1) for pair, v in found.items()}
        figures[f"pairs_over_12_levels_{name}"] = share([value > 12 for values in found.values() for value in values])
    return figures


def measure_shades(cases: list[Case], pictures: Pictures) -> Figures:
    pairs: dict[str, dict[str, float]] = defaultdict(dict)
    for case, picture in zip(cases, pictures, strict=True):
        value = measures.luminance(measures.object_colour(picture, case.scene.mask))
        pairs[case.labels["pair"]][case.labels["shade"]] = value
    return {"light_over_dark_by_25_levels": share([p["light"] - p["dark"] > 25 for p in pairs.values()])}


def measure_scenes(cases: list[Case], pictures: Pictures) -> Figures:
    rng, size = np.random.default_rng(5), (128, 128)
    nothing = np.zeros(size[::-1], dtype=bool)
    examples = {
        name: [measures.grid((paint_scene(name, size, rng).picture * 255).astype(np.uint8), nothing) for _ in range(30)]
        for name in (*SEVEN_SCENES, "sky")
    }
    right: dict[str, list[bool]] = defaultdict(list)
    for case, picture in zip(cases, pictures, strict=True):
        name = measures.nearest(measures.grid(picture, case.scene.mask), examples)
        right[case.labels["scene"]].append(name == case.labels["scene"])
    total = [value for values in right.values() for value in values]
    return {"recognised": share(total)} | {f"recognised_{name}": share(values) for name, values in right.items()}


def measure_ground(cases: list[Case], pictures: Pictures) -> Figures:
    right = []
    for case, picture in zip(cases, pictures, strict=True):
        far = measures.outside(case.scene.mask)
        top, bottom = picture[:24][far[:24]], picture[-20:][far[-20:]]
        sky = measures.is_colour(np.median(top, axis=0), case.labels["sky"], "")
        right.append(sky and measures.is_colour(np.median(bottom, axis=0), case.labels["ground"], ""))
    return {"sky_and_ground_colours_right": share(right)}


def measure_pairs(cases: list[Case], pictures: Pictures) -> Figures:
    both, any_one = [], []
    for case, picture in zip(cases, pictures, strict=True):
        right = []
        for slot, placed in enumerate(reversed(case.scene.objects)):
            half = np.zeros_like(case.scene.mask)
            half[:, slot * 64 : slot * 64 + 64] = True
            tone = placed.subject.colour
            right.append(
                measures.is_colour(measures.object_colour(picture, case.scene.mask & half), tone.name, tone.shade)
            )
        both.append(all(right))
        any_one.append(any(right))
    return {"both_colours_right": share(both), "at_least_one_right": share(any_one)}


def measure_free(cases: list[Case], pictures: Pictures) -> Figures:
    """Without control: the picture has an object of the prompted colour, neither a speck nor the whole picture."""
    made = []
    for case, picture in zip(cases, pictures, strict=True):
        tone = case.scene.objects[0].subject.colour
        near = np.linalg.norm(
            measures.lab(picture.astype(float)) - measures.lab(np.array(tone.rgb, dtype=float)), axis=-1
        )
        area = float((near < 38).mean())
        made.append(0.03 < area < 0.75)
    return {"makes_an_object": share(made)}


def measure_seeds(cases: list[Case], pictures: Pictures) -> Figures:
    found: dict[str, list[float]] = defaultdict(list)
    for (a, first), (b, second) in combinations(zip(cases, pictures, strict=True), 2):
        if a.labels["scene"] == b.labels["scene"]:
            found["full_prompt" if "meadow" in a.prompt else "short_prompt"].append(measures.difference(first, second))
    return {f"levels_between_seeds_{name}": round(float(np.mean(values)), 1) for name, values in found.items()}


def measure_bad(cases: list[Case], pictures: Pictures) -> Figures:
    """The prompted colour appears where something was drawn, or anywhere on an empty canvas."""
    right: dict[str, list[bool]] = defaultdict(list)
    for case, picture in zip(cases, pictures, strict=True):
        where = case.scene.mask if case.scribble.any() else np.ones_like(case.scene.mask)
        tone = case.scene.objects[0].subject.colour
        near = np.linalg.norm(
            measures.lab(picture.astype(float)) - measures.lab(np.array(tone.rgb, dtype=float)), axis=-1
        )
        right[case.labels["style"]].append(bool((near[where] < 38).mean() > (0.3 if case.scribble.any() else 0.02)))
    total = [value for values in right.values() for value in values]
    return {"in_the_spirit": share(total)} | {f"in_the_spirit_{style}": share(v) for style, v in right.items()}


MEASURES: dict[str, Callable[[list[Case], Pictures], Figures]] = {
    "outline": measure_outline,
    "details": measure_details,
    "nouns": measure_nouns,
    "shades": measure_shades,
    "scenes": measure_scenes,
    "ground": measure_ground,
    "pairs": measure_pairs,
    "scale 0": measure_free,
    "empty prompt": lambda cases, pictures: {
        k: v for k, v in measure_outline(cases, pictures).items() if "colour" not in k
    },
    "seeds": measure_seeds,
    "bad drawings": measure_bad,
    "256 px": measure_outline,
    "192x128 px": measure_outline,
}


def measure(cases: list[Case], pictures: Pictures) -> dict[str, Figures]:
    figures = {}
    for group, function in MEASURES.items():
        members = [i for i, case in enumerate(cases) if case.group == group]
        if members:
            figures[group] = function([cases[i] for i in members], [pictures[i] for i in members])
    return figures


def time_pictures(pipe: StableDiffusionXLControlNetPipeline, case: Case, *, steps: int, guidance: float) -> Figures:
    """Seconds for one picture with the defaults. The machine should be idle."""
    spent = []
    for seed in range(4):
        start = time.perf_counter()
        generate(pipe, [case.prompt], [case.scribble], seeds=[seed], steps=steps, guidance=guidance)
        spent.append(time.perf_counter() - start)
    return {
        "seconds": round(min(spent), 2),
        "seconds_median": round(float(np.median(spent)), 2),
        "threads": torch.get_num_threads(),
        "steps": steps,
    }


def write_sheets(cases: list[Case], pictures: Pictures, out: Path) -> None:
    for group in dict.fromkeys(c.group for c in cases):
        cells = [
            (c.scribble, p, c.prompt or "(empty prompt)")
            for c, p in zip(cases, pictures, strict=True)
            if c.group == group
        ]
        side = max(cells[0][1].shape[:2])
        contact_sheet(cells[:48], out / f"{group.replace(' ', '-')}.png", columns=8 if side <= 128 else 4, side=side)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m demo.evaluate", description=__doc__)
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT)
    parser.add_argument(
        "--out", type=Path, default=HERE / "work" / "evaluation", help="folder for sheets and figures.json"
    )
    parser.add_argument("--only", help="run only this group of cases")
    parser.add_argument("--steps", type=int, help="default: the checkpoint's")
    parser.add_argument("--guidance", type=float, help="default: the checkpoint's")
    parser.add_argument(
        "--targets",
        action="store_true",
        help="measure the pictures that scenes.py paints instead, to check the measures",
    )
    return parser.parse_args(arguments)


def evaluate(options: argparse.Namespace) -> dict[str, Figures]:
    cases = [c for c in all_cases() if options.only in (None, c.group)]
    if options.targets:
        return measure(cases, [c.scene.picture for c in cases])
    pipe, defaults = load(options.checkpoint)
    steps = options.steps or int(defaults.get("num_inference_steps", 12))
    guidance = options.guidance or float(defaults.get("guidance_scale", 4.0))
    pictures = draw(pipe, cases, steps=steps, guidance=guidance)
    options.out.mkdir(parents=True, exist_ok=True)
    write_sheets(cases, pictures, options.out)
    figures = measure(cases, pictures)
    figures["speed"] = time_pictures(pipe, cases[0], steps=steps, guidance=guidance)
    figures["run"] = {"cases": len(cases), "steps": steps, "guidance_scale": guidance}
    (options.out / "figures.json").write_text(json.dumps(figures, indent=2) + "\n")
    return figures


def main() -> int:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    diffusers_logging.set_verbosity_error()
    options = parse()
    try:
        figures = evaluate(options)
    except FileNotFoundError as error:
        logger.error("%s", error)
        return 2
    logger.info("%s", json.dumps(figures, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
