# SPDX-License-Identifier: Apache-2.0
"""A benchmark run: load the networks, warm up, measure, write the results."""

import logging
import math
import time
from pathlib import Path

import torch
from diffusion_engine.row_limits import knee

from benchmarks import RESULTS
from benchmarks.engine import torch_device
from benchmarks.engine.engine_page import Page
from benchmarks.engine.ideal_time import measure_ideal_time
from benchmarks.engine.machine_speed import SpeedProbe, calibrate
from benchmarks.engine.options import Options
from benchmarks.engine.pass_times import row_times, scaled_networks, table
from benchmarks.engine.peer_selection import start_peers
from benchmarks.engine.stock_pipeline import StockPipeline
from benchmarks.engine.workloads import measure, standard_workloads

logger = logging.getLogger(__name__)


def run(options: Options) -> Path:
    """Measure, and write the results. Returns the file of the page."""
    give_up_at = time.monotonic() + 60 * options.minutes if options.minutes else math.inf
    if options.threads:
        torch.set_num_threads(options.threads)
    stock = StockPipeline.load(options.weights)
    probe, defaults = SpeedProbe(stock), stock.capabilities.defaults
    times = row_times(probe.networks, stock.capabilities, (defaults.width, defaults.height))
    max_rows = options.max_rows or knee(times)
    peers = start_peers(options, stock, max_rows=max_rows)
    reference, service = calibrate(stock, probe)
    ideal_time = measure_ideal_time(stock, probe, max_rows=max_rows)
    all_workloads = standard_workloads(saturated_jobs=options.saturated_jobs, loaded_jobs=options.loaded_jobs)
    workloads = [workload for workload in all_workloads if options.workloads in workload.name]
    page = Page(
        options=options,
        device=stock.pipeline.device,
        workloads=workloads,
        peers=[peer.name for peer in peers],
        results=[],
        ideal_time=ideal_time,
        service=service,
        times=times,
        max_rows=max_rows,
    )
    try:
        for result in measure(
            workloads,
            peers,
            repeats=options.repeats,
            service=service,
            probe=probe.seconds,
            reference=reference,
            seed=options.seed,
            give_up_at=give_up_at,
        ):
            page.results.append(result)
            file = page.write(RESULTS)  # so that an interrupted run keeps its results
    finally:
        for peer in peers:
            peer.close()
    logger.info("written: %s", file)
    return file


def profile_larger(options: Options, *, scale: int, latent_side: int) -> Path:
    """Measure the time of a pass by its rows where one row already uses the whole processor. It has its own page."""
    if options.threads:
        torch.set_num_threads(options.threads)
    stock = StockPipeline.load(options.weights)
    networks = scaled_networks(stock, options.weights, scale)
    side = latent_side * networks.vae_scale_factor
    channels = tuple(networks.unet.config.block_out_channels)
    times = row_times(networks, stock.capabilities, (side, side))
    lines = [
        "# Time of a pass by rows, t(rows), of larger networks with random weights: "
        f"channels {channels}, latents {latent_side}x{latent_side}",
        "",
        f"{torch_device.describe(stock.pipeline.device)}. `{options.command}`",
        "",
        "If one row already uses the whole processor, sharing a pass adds little throughput. The engine still gives",
        "previews, progress and cancellation, and requests do not wait behind long ones. On most GPUs, SDXL at",
        "1024x1024 is such a case.",
        "",
        *table(times),
    ]
    RESULTS.mkdir(parents=True, exist_ok=True)
    page = RESULTS / f"{options.name or f'rows-x{scale}-{torch_device.slug(stock.pipeline.device)}'}.md"
    page.write_text("\n".join(lines) + "\n")
    logger.info("written: %s", page)
    return page
