# SPDX-License-Identifier: Apache-2.0
"""Part `vae`: decoding by dtype and memory layout, and beside passes: between them, or on a stream of its own."""

import copy
import threading
from contextlib import nullcontext
from typing import Any

import torch
from diffusion_engine.networks import tiled
from diffusion_engine.vae_decoder import VAEDecoder

from benchmarks.gpu_kit.bench import Bench

NUM_REQUESTS = 4
NUM_PASSES = 2


def measure(bench: Bench) -> None:
    pipeline = bench.pipeline()
    engine = bench.engine(max_rows=2 * NUM_REQUESTS, networks=bench.networks(pipeline))
    states = bench.states(engine, bench.plan.sizes[0], NUM_REQUESTS)
    latents = states[0].encoded.latents
    times: dict[tuple[str, bool], float] = {}
    for dtype in ("float16", "bfloat16", "float32"):
        for is_channels_last in (True, False):
            if not bench.has_time(5):
                return
            vae = copy.deepcopy(pipeline.vae).to(getattr(torch, dtype))
            vae.to(memory_format=torch.channels_last if is_channels_last else torch.contiguous_format)
            ms, gib = decoding(bench, vae, latents)
            times[dtype, is_channels_last] = ms
            layout = "channels_last" if is_channels_last else "contiguous"
            bench.row(what=f"decode, {dtype}, {layout}", ms=ms, peak_GiB=gib)
            del vae
    decide_layout(bench, times)
    if bench.has_time(5):
        measure_tf32(bench, copy.deepcopy(pipeline.vae).to(torch.float32), latents)
    if bench.has_time(5):
        measure_small_gpu(bench, pipeline, latents)
    if bench.has_time(15):
        between, beside = measure_streams(bench, engine.vae_decoder, engine.denoiser, states)
        gain = 1 - beside / between
        follows = "Give the VAE a stream of its own." if gain > 0.05 else "Decode between steps, as now."
        bench.decide("Q5 VAE's stream", measured=f"a stream of its own saves {gain:.1%} of the time", follows=follows)


def decide_layout(bench: Bench, times: dict[tuple[str, bool], float]) -> None:
    fastest = min(times, key=lambda each: times[each])
    ratio = times["float16", True] / times["float16", False]
    follows = (
        "Either will do." if 0.95 < ratio < 1.05 else f"Use {'channels_last' if ratio < 1 else 'contiguous tensors'}."
    )
    measured = f"channels_last takes {ratio:.2f} times as long in float16; fastest: {fastest[0]}"
    bench.decide("Q1 VAE's layout", measured=measured, follows=follows)


@torch.inference_mode()
def decoding(bench: Bench, vae: Any, latents: torch.Tensor) -> tuple[float, float | None]:
    """Milliseconds and memory of decoding one picture."""
    unscaled = latents.to(vae.dtype) / vae.config.scaling_factor
    bench.reset_peak()
    ms = bench.milliseconds(lambda: vae.decode(unscaled, return_dict=False))
    return ms, bench.peak_gib()


@torch.inference_mode()
def measure_tf32(bench: Bench, vae: Any, latents: torch.Tensor) -> None:
    """Decoding in float32, with matrix products in TF32."""
    exact_ms, _ = decoding(bench, vae, latents)
    unscaled = latents.float() / vae.config.scaling_factor
    exact = vae.decode(unscaled, return_dict=False)[0]
    torch.set_float32_matmul_precision("high")
    try:
        ms, gib = decoding(bench, vae, latents)
        difference = 127.5 * float((vae.decode(unscaled, return_dict=False)[0] - exact).abs().max())
    finally:
        torch.set_float32_matmul_precision("highest")
    bench.row(what="decode, float32 with TF32 products, channels_last", ms=ms, peak_GiB=gib)
    measured = (
        f"saves {1 - ms / exact_ms:.1%} of decoding in float32, and changes colours by at most {difference:.2g} of 255"
    )
    follows = "Use TF32 for the VAE." if ms < 0.95 * exact_ms and difference < 1 else "Leave it."
    bench.decide("Q14 TF32", measured=measured, follows=follows)


@torch.inference_mode()
def measure_small_gpu(bench: Bench, pipeline: Any, latents: torch.Tensor) -> None:
    """What the engine does on a small GPU: decoding in tiles, and moving networks off the GPU and back."""
    vae = pipeline.vae
    whole_ms, whole_gib = decoding(bench, vae, latents)
    tiled_ms, tiled_gib = decoding(bench, tiled(vae), latents)
    bench.row(what=f"decode, {bench.plan.dtype}, in tiles", ms=tiled_ms, peak_GiB=tiled_gib)
    guests = (pipeline.text_encoder, pipeline.text_encoder_2, vae)

    def move() -> None:
        for place in ("cpu", bench.device):
            for guest in guests:
                guest.to(place)

    moving_ms = bench.milliseconds(move, repeats=2)
    bench.row(what="text encoders and VAE off the GPU and back", ms=moving_ms)
    saved = f"{whole_gib - tiled_gib:.2f} GiB" if whole_gib is not None and tiled_gib is not None else "memory"
    measured = f"tiles take {tiled_ms / whole_ms:.2f} times as long and save {saved}; moving takes {moving_ms:.0f} ms"
    follows = "Tiles before offloading, as now." if tiled_ms - whole_ms < moving_ms else "Offloading before tiles."
    bench.decide("Q20 small GPUs", measured=measured, follows=follows)


def measure_streams(bench: Bench, decoder: VAEDecoder, denoiser: Any, states: list[Any]) -> tuple[float, float]:
    latents = states[0].encoded.latents
    side = torch.cuda.Stream() if bench.is_gpu else None  # type: ignore[no-untyped-call]

    def passes() -> None:
        for _ in range(NUM_PASSES):
            denoiser.predict(states)

    def decode_on_side_stream() -> None:
        with torch.cuda.stream(side) if side is not None else nullcontext():
            decoder.decode(latents)

    def passes_and_decode() -> None:
        passes()
        decoder.decode(latents)

    def both() -> None:
        thread = threading.Thread(target=decode_on_side_stream)
        thread.start()
        passes()
        thread.join()

    alone = bench.milliseconds(passes, repeats=3)
    between = bench.milliseconds(passes_and_decode, repeats=3)
    beside = bench.milliseconds(both, repeats=3)
    for what, ms in (("no decoding", alone), ("decoding between", between), ("decoding on its own stream", beside)):
        bench.row(what=f"{NUM_PASSES} passes of {2 * len(states)} rows, {what}", ms=ms)
    return between, beside
