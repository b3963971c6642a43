# SPDX-License-Identifier: Apache-2.0
"""The reference for pictures: diffusers' own pipeline, one request at a time, without the engine's networks."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from diffusers import DPMSolverSDEScheduler, StableDiffusionXLControlNetPipeline
from diffusion_engine.capabilities import Capabilities
from diffusion_engine.noise_scheduler import make_noise_scheduler
from diffusion_engine.preprocessing import preprocess
from diffusion_engine.request import DiffusionRequest
from diffusion_engine.request_parser import parse_request
from diffusion_engine.request_state import NullListener, RequestState
from drawings import row
from PIL import Image


def stock_scheduler(request: DiffusionRequest, config: Mapping[str, Any]) -> Any:
    """The request's scheduler, as diffusers' pipelines take it."""
    scheduler = make_noise_scheduler(request.scheduler, config, timestep_spacing=request.timestep_spacing)
    if isinstance(scheduler, DPMSolverSDEScheduler):  # it takes no generator
        return scheduler.from_config(scheduler.config, noise_sampler_seed=request.seed)
    return scheduler


class StockPipeline:
    """Shares weights and preprocessing with the engine. All else between scribble and picture is diffusers' code."""

    def __init__(self, pipeline: Any, capabilities: Capabilities) -> None:
        self._pipeline = pipeline
        self._capabilities = capabilities

    def pixels(self, *, options: Mapping[str, Any] | None = None, **values: Any) -> npt.NDArray[Any]:
        """The picture, (H, W, 3), of a request with these values by tensor name.

        Args:
            options: arguments of the pipeline that replace those of the request.
        """
        request = parse_request(row(**values), self._capabilities)
        state = RequestState(request=request, listener=NullListener(), arrived=0.0)
        preprocess(state, self._capabilities, max_pixels=50_000_000)
        width, height, _ = state.key
        has_scribble = state.control_image is not None
        texts = {
            "prompt": request.prompt,
            # None instead of "", so that the pipeline uses the zeros that SDXL was trained with.
            "negative_prompt": request.negative_prompt or None,
            "clip_skip": request.clip_skip,
        }
        images = self._with_scheduler(request)(
            **(texts | dict(options or {})),
            image=state.control_image if has_scribble else Image.new("RGB", (width, height)),
            width=width,
            height=height,
            num_inference_steps=request.num_inference_steps,
            guidance_scale=request.guidance_scale,
            # The name in diffusers. The pipeline silently ignores unknown names such as `conditioning_scale`.
            controlnet_conditioning_scale=request.conditioning_scale if has_scribble else 0.0,
            control_guidance_start=request.control_guidance_start,
            control_guidance_end=request.control_guidance_end,
            eta=request.eta or 0.0,
            generator=torch.Generator("cpu").manual_seed(request.seed),
            output_type="pt",
        ).images
        pixels = (images[0].float().clamp(0, 1) * 255).round().to(torch.uint8)  # (3, H, W)
        return pixels.permute(1, 2, 0).numpy().astype(np.int16)

    def _with_scheduler(self, request: DiffusionRequest) -> Any:
        scheduler = stock_scheduler(request, self._pipeline.scheduler.config)
        pipeline = StableDiffusionXLControlNetPipeline(
            **{**self._pipeline.components, "scheduler": scheduler},
            force_zeros_for_empty_prompt=self._pipeline.config.force_zeros_for_empty_prompt,
            add_watermarker=False,
        )
        pipeline.set_progress_bar_config(disable=True)
        return pipeline
