# SPDX-License-Identifier: Apache-2.0
"""`python -m demo.train`: draw scenes, then train VAE, text encoders, UNet and ControlNet. Resumable."""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
import signal
import sys
from functools import partial
from pathlib import Path

logger = logging.getLogger("demo.train")

HERE = Path(__file__).parent
STATES_GB = 1.0  # saved states, latents of the decoder's training, and the checkpoint
POLISHED_PICTURES = 1000
STARTED_FROM = "started-from.txt"
SERVING = HERE / "serving.json"


class TrainingError(Exception):
    """A problem that the user can solve. The message says how."""


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m demo.train", description=__doc__)
    parser.add_argument(
        "--work",
        type=Path,
        default=HERE / "work",
        help="folder for scenes, state and sample sheets; training resumes from it",
    )
    parser.add_argument("--out", type=Path, help="folder for the finished checkpoint; default: checkpoint in --work")
    parser.add_argument("--init", type=Path, help="start from this checkpoint folder instead of random weights")
    parser.add_argument("--shards", type=int, default=60, help="number of shards, with about 550 scenes each")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--vae-minutes", type=float, default=10.0)
    parser.add_argument(
        "--minutes",
        type=float,
        default=150.0,
        help="training time of text encoders, UNet and ControlNet: minutes of CPU time in each process",
    )
    parser.add_argument("--polish-minutes", type=float, default=8.0, help="training time of the decoder, at the end")
    parser.add_argument("--few-step-minutes", type=float, default=15.0, help="training time of the few-step LoRA")
    parser.add_argument("--style-minutes", type=float, default=12.0, help="training time of each style's LoRA")
    parser.add_argument("--rate", type=float, default=1e-3, help="peak learning rate")
    parser.add_argument("--processes", type=int, default=min(4, os.cpu_count() or 1))
    options = parser.parse_args(arguments)
    options.out = options.out or options.work / "checkpoint"
    return options


def missing_package() -> str | None:
    try:
        import diffusers  # noqa: F401
        import peft  # noqa: F401
        import torch  # noqa: F401
        import tqdm  # noqa: F401
        import transformers  # noqa: F401
    except ImportError as error:
        return error.name
    return None


def check(options: argparse.Namespace) -> None:
    """Check at the start what would fail after an hour of training."""
    if package := missing_package():
        message = f'the package "{package}" is missing: pip install "fastapi-triton[embedded]" peft tqdm'
        raise TrainingError(message)
    if options.init and not (options.init / "model_index.json").exists():
        message = f"{options.init} is not a checkpoint folder: it has no model_index.json"
        raise TrainingError(message)
    options.work.mkdir(parents=True, exist_ok=True)
    started = options.work / STARTED_FROM
    if started.exists() and started.read_text() != init_of(options):
        message = (
            f"{options.work} has the state of a training that started from {started.read_text() or 'random weights'}: "
            "choose another --work"
        )
        raise TrainingError(message)
    free, needed = shutil.disk_usage(options.work).free / 1e9, gigabytes_needed(options)
    if free < needed:
        message = (
            f"{options.work} has {free:.1f} GB free; the scenes and states that it does not have yet need "
            f"{needed:.1f} GB: choose another --work, or fewer --shards"
        )
        raise TrainingError(message)


def gigabytes_needed(options: argparse.Namespace) -> float:
    from demo.dataset import STYLE_SHARDS, missing_bytes, style_folder
    from demo.styles import STYLES

    styles = sum(missing_bytes(style_folder(options.work, style), STYLE_SHARDS) for style in STYLES)
    return STATES_GB + (missing_bytes(options.work / "scenes", options.shards) + styles) / 1e9


def init_of(options: argparse.Namespace) -> str:
    """The checkpoint to start from. Weights, tokens and latents in the work folder depend on it."""
    return str(options.init.resolve()) if options.init else ""


def forget_stale(work: Path) -> None:
    """Delete the states of decoder and LoRAs if the UNet was trained since, because they no longer match."""
    trained_at = (work / "diffusion.pt").stat().st_mtime
    for path in (*work.glob("polish*"), *work.glob("lora-*")):
        if path.suffix in (".pt", ".npz") and path.stat().st_mtime < trained_at:
            path.unlink()


def train(options: argparse.Namespace) -> None:
    from demo import bundle as bundles
    from demo.dataset import STYLE_SHARDS, draw_shards, style_folder
    from demo.latents import encode_shards
    from demo.polish import draw_latents, polish_decoder
    from demo.run import give_way
    from demo.styles import STYLES
    from demo.suggestions import suggestions
    from demo.team import run_team
    from demo.train_diffusion import finished, train_diffusion
    from demo.train_few_step import train_few_step
    from demo.train_style import train_style
    from demo.train_vae import train_vae
    from demo.vocabulary import train_tokenizer

    give_way()
    (options.work / STARTED_FROM).write_text(init_of(options))
    scenes = options.work / "scenes"
    draw = partial(draw_shards, seed=options.seed, processes=options.processes)
    draw(scenes, shards=options.shards)
    if options.init:  # its UNet was trained on its VAE's latents
        vae_folder = options.init / "vae"
    else:
        vae_folder = options.work / "vae"
        if not (vae_folder / "diffusion_pytorch_model.safetensors").exists():  # which is written last
            run_team(train_vae, options.processes, options.work, options.vae_minutes, options.seed)
    run_team(encode_shards, options.processes, scenes, vae_folder)
    train_tokenizer(scenes, options.work / "tokenizer")
    diffusion = (options.work, options.init, vae_folder, options.minutes, options.rate, options.seed)
    run_team(train_diffusion, options.processes, *diffusion)
    for style in STYLES:
        draw(style_folder(options.work, style), shards=STYLE_SHARDS, style=style)
        run_team(encode_shards, options.processes, style_folder(options.work, style), vae_folder)
    forget_stale(options.work)
    count = POLISHED_PICTURES // options.processes
    run_team(draw_latents, options.processes, options.work, options.init, count, options.seed)
    run_team(polish_decoder, options.processes, options.work, vae_folder, options.polish_minutes, options.seed)
    bundle = finished(options.work, options.init)
    vae = bundles.load_vae(options.work / "vae-polished")
    serving = {**json.loads(SERVING.read_text()), "suggestions": suggestions()}
    bundles.save(bundle, vae, options.out, serving=serving)
    loras = options.out / "loras"
    starting = (options.work, options.init)
    run_team(train_few_step, options.processes, *starting, options.few_step_minutes, options.seed, loras)
    for style in STYLES:
        run_team(train_style, options.processes, *starting, style, options.style_minutes, options.seed, loras)
    logger.info(
        "checkpoint written to %s; evaluate it with: python -m demo.evaluate --checkpoint %s", options.out, options.out
    )


def main(arguments: list[str] | None = None) -> int:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    options = parse(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends the team's processes too
    try:
        check(options)
        train(options)
    except TrainingError as error:
        logger.error("%s", error)
        return 2
    except KeyboardInterrupt:
        logger.error("stopped; the same command resumes from the last saved state in %s", options.work)
        return 130
    except OSError as error:
        logger.error("cannot read or write: %s; when this is solved, run the same command to resume", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
