# SPDX-License-Identifier: Apache-2.0
"""diffusers' own SDXL ControlNet pipeline, used as in its documentation, from scribble file to picture file."""

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from diffusion_engine.capabilities import Capabilities
from diffusion_engine.config import EngineConfig
from diffusion_engine.loras.library import LoRALibrary
from diffusion_engine.networks import Networks
from diffusion_engine.noise_scheduler import make_noise_scheduler
from diffusion_engine.optimization import optimized_networks
from diffusion_engine.pictures import encode_picture
from diffusion_engine.scribble import read_scribble
from diffusion_engine.weights import load_pipeline
from PIL import Image

from benchmarks import VERSION_FOLDER
from benchmarks.engine.job import Job, ServiceTime, scribble_file


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """The networks, their device and dtype, as text that can be sent to other processes."""

    checkpoint: str = "demo_checkpoint"
    controlnet: str = ""
    vae: str = ""
    device: str = "auto"
    dtype: str = "auto"
    loras: str = ""  # a folder

    def config(self, **more: str) -> EngineConfig:
        parameters = {
            "checkpoint": self.checkpoint,
            "controlnet": self.controlnet,
            "vae": self.vae,
            "device": self.device,
            "dtype": self.dtype,
            "loras": self.loras,
            **more,
        }
        return EngineConfig.read(parameters, {}, version_folder=VERSION_FOLDER)


class StockPipeline:
    """The pipeline. One call serves one request, or several that differ in prompt and seed only.

    Args:
        networks: the same weights, optimised as in an engine.
        library: the LoRAs of these networks.
    """

    def __init__(
        self, pipeline: Any, capabilities: Capabilities, networks: Networks, library: LoRALibrary | None = None
    ) -> None:
        self.pipeline = pipeline
        self.capabilities = capabilities
        self.networks = networks
        self.library = library
        pipeline.scheduler = make_noise_scheduler(capabilities.defaults.scheduler, pipeline.scheduler.config)

    @classmethod
    def load(cls, weights: Weights) -> "StockPipeline":
        config = weights.config()
        pipeline = load_pipeline(config)
        # The engine changes the memory layout of its networks, so it gets a copy. A GPU may be too small for both.
        its_own = copy.deepcopy(pipeline) if pipeline.device.type == "cpu" else pipeline
        library = LoRALibrary.of_config(config, its_own, its_own.device)
        capabilities = replace(Capabilities.of_checkpoint(config.checkpoint), loras=library.known)
        return cls(pipeline, capabilities, optimized_networks(config, its_own, layout=library.layout), library)

    def at_size(self, width: int, height: int) -> "StockPipeline":
        """The same networks, with another default size."""
        defaults = replace(self.capabilities.defaults, width=width, height=height)
        return StockPipeline(self.pipeline, replace(self.capabilities, defaults=defaults), self.networks)

    def generate(self, jobs: Sequence[Job], after_step: Callable[[], None] = lambda: None) -> list[bytes]:
        """The picture files, in the jobs' order."""
        defaults = self.capabilities.defaults

        def stepped(_pipeline: Any, _step: int, _timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            after_step()
            return tensors

        result = self.pipeline(
            prompt=[job.prompt for job in jobs],
            image=[self._control_image(job) for job in jobs],
            width=defaults.width,
            height=defaults.height,
            num_inference_steps=jobs[0].num_steps,
            guidance_scale=defaults.guidance_scale,
            controlnet_conditioning_scale=defaults.conditioning_scale,
            generator=[torch.Generator("cpu").manual_seed(job.index) for job in jobs],
            output_type="pt",
            callback_on_step_end=stepped,
        )
        pixels = (result.images.float().clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
        return [
            encode_picture(
                Image.fromarray(each), output_format=defaults.output_format, output_quality=defaults.output_quality
            )
            for each in pixels
        ]

    def service_time(self, *, num_repeats: int = 3) -> ServiceTime:
        """The service time, from the fastest requests of 4 and of 20 steps."""
        short, long = (min(self._timed(steps) for _ in range(num_repeats)) for steps in (4, 20))
        per_step = (long - short) / 16
        return ServiceTime(fixed_s=max(0.0, short - 4 * per_step), per_step_s=per_step)

    def warm_up(self, *, most: int = 1) -> None:
        """Run calls of 1 to `most` requests, because the first pass of each shape is slow."""
        for count in range(1, most + 1):
            self.generate([Job(index=index, arrival=0, num_steps=2) for index in range(count)])

    def _timed(self, num_steps: int) -> float:
        started = time.perf_counter()
        self.generate([Job(index=0, arrival=0, num_steps=num_steps)])
        return time.perf_counter() - started

    def _control_image(self, job: Job) -> Image.Image:
        defaults = self.capabilities.defaults
        scribble = read_scribble(scribble_file(job.index), max_pixels=50_000_000, invert="auto")
        return scribble.fit(defaults.width, defaults.height)
