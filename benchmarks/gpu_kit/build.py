# SPDX-License-Identifier: Apache-2.0
"""Part `build`: makes the networks with random weights on the device, then one picture."""

import time

import torch

from benchmarks.engine.job import Job
from benchmarks.gpu_kit.bench import GIB, Bench


def measure(bench: Bench) -> None:
    started = time.perf_counter()
    torch.zeros(1, device=bench.device).tolist()
    bench.row(what="first use of the device", seconds=time.perf_counter() - started)
    bench.reset_peak()
    made = []
    seconds = bench.seconds(lambda: made.append(bench.stock()))
    bench.row(what="all networks, random weights", seconds=seconds, peak_GiB=bench.peak_gib())
    (stock,) = made
    names = {"UNet": "unet", "ControlNet": "controlnet", "VAE": "vae"}
    names |= {"text encoder": "text_encoder", "text encoder 2": "text_encoder_2"}
    for title, name in names.items():
        parameters = list(getattr(stock.pipeline, name).parameters())
        count, size = sum(each.numel() for each in parameters), sum(each.nbytes for each in parameters)
        bench.row(what=title, billion_parameters=count / 1e9, weights_GiB=size / GIB)
    for label in ("first", "second"):
        bench.reset_peak()
        seconds = bench.seconds(lambda: stock.generate([Job(index=0, arrival=0, num_steps=2)]))
        bench.row(what=f"{label} picture of stock diffusers, 2 steps", seconds=seconds, peak_GiB=bench.peak_gib())
