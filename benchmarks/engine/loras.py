# SPDX-License-Identifier: Apache-2.0
"""`python -m benchmarks.engine.loras`: four LoRAs in the same passes, against none, and against one at a time.

The same pictures are made all at once, in turn with each of the LoRAs. The figure is the rate relative to another way
in the same round: the engine without LoRAs, the engine with one LoRA at a time (the pictures of one LoRA, then those of
the next), and diffusers with PEFT, one picture at a time. The LoRAs have random weights for all linear layers of the
transformers, and rank 4, which is to the demo checkpoint's layers what 64 is to SDXL's.
"""

import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import diffusers
import torch
import typer
from diffusers import StableDiffusionXLControlNetPipeline
from diffusion_engine.capabilities import Capabilities
from diffusion_engine.engine import Engine
from diffusion_engine.engine_builder import warm_up
from diffusion_engine.loras.library import LoRALibrary
from diffusion_engine.networks import Networks
from diffusion_engine.optimization import optimized_networks
from diffusion_engine.row_limits import RowLimits
from diffusion_engine.weights import load_pipeline
from PIL import Image
from safetensors.torch import save_file
from torch import nn

import benchmarks.engine.stock_openmp  # noqa: F401
from benchmarks.common.measurement_lock import measurement
from benchmarks.common.ratio import Ratio
from benchmarks.engine import torch_device
from benchmarks.engine.reproducible import submit
from benchmarks.engine.stock_pipeline import Weights

app = typer.Typer(add_completion=False)

NUM_LORAS, RANK, NUM_STEPS = 4, 4, 8


def save_random_lora(path: Path, unet: nn.Module, *, seed: int) -> None:
    """A LoRA of all linear layers in the transformers, in PEFT's format."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, layer in unet.named_modules():
        if isinstance(layer, nn.Linear) and ".attentions." in name:
            num_out, num_in = layer.weight.shape
            tensors[f"unet.{name}.lora_A.weight"] = torch.randn(RANK, num_in, generator=generator) / num_in
            tensors[f"unet.{name}.lora_B.weight"] = torch.randn(num_out, RANK, generator=generator) / RANK
    save_file(tensors, path)


def build(folder: Path, *, max_rows: int) -> Engine:
    """An engine with the LoRAs of a folder."""
    config = Weights(device="cpu").config(loras=str(folder))
    pipeline = load_pipeline(config)
    library = LoRALibrary.of_config(config, pipeline, pipeline.device)
    networks: Networks = optimized_networks(config, pipeline, layout=library.layout)
    capabilities = replace(Capabilities.of_checkpoint(config.checkpoint), loras=library.known)
    engine = Engine(networks, capabilities, RowLimits({}, default=max_rows), library=library)
    warm_up(engine, library)
    engine.start()
    return engine


def seconds(engine: Engine, groups: Sequence[Sequence[tuple[int, str]]]) -> float:
    """The time for pictures with LoRAs by name, or without. Those of a group are made at once."""
    started = time.perf_counter()
    for group in groups:
        waiters = []
        for index, name in group:
            loras = {"loras": json.dumps([{"name": name}]).encode()} if name else {}
            waiters.append(submit(engine, index, num_inference_steps=NUM_STEPS, **loras))
        for waiter in waiters:
            waiter.pixels()
    return time.perf_counter() - started


def stock_seconds(pipeline: Any, capabilities: Any, pictures: Sequence[tuple[int, str]]) -> float:
    """The time of diffusers' pipeline, which activates the adapter of each picture."""
    defaults = capabilities.defaults
    started = time.perf_counter()
    for index, name in pictures:
        pipeline.set_adapters(name)
        pipeline(
            prompt=f"a red house, number {index}",
            image=Image.new("RGB", (defaults.width, defaults.height)),
            width=defaults.width,
            height=defaults.height,
            num_inference_steps=NUM_STEPS,
            guidance_scale=defaults.guidance_scale,
            generator=torch.Generator().manual_seed(index),
        )
    return time.perf_counter() - started


@app.command(help=__doc__)
def main(rounds: int = 5, num_pictures: Annotated[int, typer.Option(help="Pictures made at once.")] = 16) -> None:
    diffusers.utils.logging.set_verbosity_error()  # it warns of LoRAs that change no text encoder
    names = [f"style{number}" for number in range(NUM_LORAS)]
    with tempfile.TemporaryDirectory() as folder:
        stock = load_pipeline(Weights(device="cpu").config())
        for seed, name in enumerate(names):
            save_random_lora(Path(folder, f"{name}.safetensors"), stock.unet, seed=seed)
        engine = build(Path(folder), max_rows=16)
        peft = StableDiffusionXLControlNetPipeline(**stock.components, add_watermarker=False)
        peft.set_progress_bar_config(disable=True)
        for name in names:
            peft.load_lora_weights(folder, weight_name=f"{name}.safetensors", adapter_name=name)
        pictures = [(index, names[index % NUM_LORAS]) for index in range(num_pictures)]
        plain = [(index, "") for index, _ in pictures]
        by_lora = [[each for each in pictures if each[1] == name] for name in names]
        try:
            seconds(engine, [pictures])  # warm-up
            took = []
            for number in range(1, rounds + 1):
                took.append(
                    (
                        seconds(engine, [plain]),
                        seconds(engine, [pictures]),
                        seconds(engine, by_lora),
                        stock_seconds(peft, engine.capabilities, pictures),
                    )
                )
                typer.echo(f"round {number}: {[round(each, 2) for each in took[-1]]} s", err=True)
        finally:
            engine.stop()
    typer.echo(torch_device.describe(torch.device("cpu")))
    typer.echo(
        f"{num_pictures} pictures of {NUM_STEPS} steps at once, with {NUM_LORAS} LoRAs, {rounds} rounds; rate of"
    )
    typer.echo("the engine with all LoRAs in the same passes, relative to")
    for name, index in {"no LoRAs": 0, "one LoRA at a time": 2, "diffusers, one picture at a time": 3}.items():
        typer.echo(f"  {name}: {Ratio.of([each[index] / each[1] for each in took])}")


if __name__ == "__main__":
    with measurement():
        app()
