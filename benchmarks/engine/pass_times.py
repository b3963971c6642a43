# SPDX-License-Identifier: Apache-2.0
"""The time of a pass by its number of rows, t(rows), for a checkpoint and for larger networks."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from diffusers import ControlNetModel, UNet2DConditionModel
from diffusion_engine.capabilities import Capabilities
from diffusion_engine.errors import is_out_of_memory
from diffusion_engine.networks import Networks
from diffusion_engine.optimization import optimized_networks
from diffusion_engine.request_state import BatchKey
from diffusion_engine.row_limits import ROW_COUNTS, knee
from diffusion_engine.row_profiler import pass_timer

from benchmarks.engine.stock_pipeline import StockPipeline, Weights

logger = logging.getLogger(__name__)

Times = Mapping[int, float]  # rows → seconds


def row_times(
    networks: Networks, capabilities: Capabilities, size: tuple[int, int], counts: Sequence[int] = ROW_COUNTS
) -> dict[int, float]:
    """The fastest of a few passes of each count, after a warm-up. Counts that need too much memory are omitted."""
    measure = pass_timer(networks, capabilities)
    times: dict[int, float] = {}
    for count in counts:
        try:
            times[count] = measure(BatchKey(*size), count)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            logger.warning("%d rows at %dx%d need too much memory", count, *size)
            break
        logger.info("%dx%d, %d rows: %.1f ms", *size, count, 1000 * times[count])
    return times


def scaled_networks(stock: StockPipeline, weights: Weights, scale: int) -> Networks:
    """UNet and ControlNet with `scale` times the channels and heads, and random weights."""
    pipeline = stock.pipeline
    parts: dict[str, Any] = {**pipeline.components}
    for name, of_class in (("unet", UNet2DConditionModel), ("controlnet", ControlNetModel)):
        config = dict(getattr(pipeline, name).config)
        config["block_out_channels"] = [scale * channels for channels in config["block_out_channels"]]
        config["attention_head_dim"] = [scale * heads for heads in config["attention_head_dim"]]
        parts[name] = of_class.from_config(config).to(pipeline.device, pipeline.unet.dtype).eval()
    larger = type(pipeline)(**parts, add_watermarker=False)
    return optimized_networks(weights.config(), larger)


def table(times: Times) -> list[str]:
    """A Markdown table: rows, time, and throughput relative to one guided request (two rows)."""
    one_request = times.get(2)
    lines = ["| rows | ms a pass | ms a row | rows/s relative to 2 rows |", "| ---: | ---: | ---: | ---: |"]
    for count, seconds in times.items():
        gain = f"{one_request / 2 / (seconds / count):.2f}x" if one_request else ""
        lines.append(f"| {count} | {1000 * seconds:.1f} | {1000 * seconds / count:.1f} | {gain} |")
    return [*lines, "", f"The engine would use at most {knee(times)} rows in a pass."]
