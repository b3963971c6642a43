# SPDX-License-Identifier: Apache-2.0
"""One `DiffusionRequest` through diffusers' own pipeline: scribble → latents → picture file, with all timings."""

import base64
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import torch
from diffusers import StableDiffusionXLControlNetPipeline
from PIL import Image

from diffusion_engine.capabilities import Capabilities
from diffusion_engine.intake import RowValues, read_request
from diffusion_engine.noise_scheduler import make_noise_scheduler
from diffusion_engine.pictures import encode_picture, read_picture_file
from diffusion_engine.request import DiffusionRequest, RequestError
from diffusion_engine.scribble import Scribble, read_scribble


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedRequest:
    """A request whose scribble has been read, ready for the networks."""

    request: DiffusionRequest
    scribble: Scribble
    control_image: Image.Image
    answer_as_text: bool  # base64 text in, base64 text out
    duration_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratedPicture:
    """What one request gets: the picture as it wants it sent, the seed to get it again, and how it was made."""

    content: bytes
    seed: int
    info: dict[str, Any]


class Interruption:
    """Asked between denoise steps: is the deadline over, has the caller left?"""

    def __init__(self, *, deadline: float | None, is_cancelled: Callable[[], bool]) -> None:
        self.deadline = deadline  # a point of time.monotonic()
        self.is_cancelled = is_cancelled

    @classmethod
    def after(cls, arrived: float, timeout_s: float | None, is_cancelled: Callable[[], bool]) -> Self:
        return cls(deadline=None if timeout_s is None else arrived + timeout_s, is_cancelled=is_cancelled)

    def check(self) -> None:
        if self.is_cancelled():
            raise RequestError("cancelled", "the caller left before the picture was done")
        if self.deadline is not None and time.monotonic() > self.deadline:
            raise RequestError(
                "deadline_exceeded",
                "timeout_s passed before the picture was done; allow more time or ask for fewer steps",
                field="timeout_s",
            )


class ScribblePipeline:
    """The loaded networks, used by one thread at a time."""

    def __init__(self, networks: Any, capabilities: Capabilities, *, max_pixels: int) -> None:
        self.networks = networks
        self.capabilities = capabilities
        self.max_pixels = max_pixels

    def prepare(self, request: DiffusionRequest) -> PreparedRequest:
        """All that can be refused about a request is refused here, before the networks run."""
        started = time.monotonic()
        file = read_picture_file(request.image)
        scribble = read_scribble(file.content, max_pixels=self.max_pixels, invert=request.invert)
        width, height = self.capabilities.choose_size(request.width, request.height, scribble_size=scribble.size)
        return PreparedRequest(
            request=request,
            scribble=scribble,
            control_image=scribble.fit(width, height),
            answer_as_text=file.is_text,
            duration_s=time.monotonic() - started,
        )

    def generate(self, prepared: PreparedRequest, interruption: Interruption) -> GeneratedPicture:
        """Raises `RequestError` for an expected failure; anything else that is raised is a fault of ours."""
        request = prepared.request
        interruption.check()
        started = time.monotonic()
        try:
            picture = self.denoise(request, prepared.control_image, interruption)
        except torch.cuda.OutOfMemoryError:
            torch.cuda.empty_cache()
            detail = "the GPU has no memory left for this picture; try again soon"
            raise RequestError("out_of_memory", detail, retry_after_s=5) from None
        denoised = time.monotonic()
        content = encode_picture(picture, output_format=request.output_format, output_quality=request.output_quality)
        finished = time.monotonic()
        timings = {
            "prepare": prepared.duration_s,
            "denoise_and_decode": denoised - started,
            "encode": finished - denoised,
            "total": prepared.duration_s + finished - started,
        }
        return GeneratedPicture(
            content=base64.b64encode(content) if prepared.answer_as_text else content,
            seed=request.seed,
            info={
                "checkpoint": self.capabilities.name,
                **used_parameters(request, picture.size),
                "scribble": prepared.scribble.describe(),
                "timings_s": {name: round(duration, 4) for name, duration in timings.items()},
            },
        )

    def warm_up(self) -> None:
        """One step at the default size: what cannot run fails to load, and nobody waits for a first run."""
        size = (self.capabilities.defaults.width, self.capabilities.defaults.height)
        scribble = encode_picture(Image.new("L", size), output_format="webp", output_quality=90)
        values: RowValues = {
            "prompt": b"",
            "image": scribble,
            "conditioning_scale": 1.0,
            "num_inference_steps": 1,
        }
        prepared = self.prepare(read_request(values, self.capabilities))
        self.generate(prepared, Interruption(deadline=None, is_cancelled=lambda: False))

    def denoise(self, request: DiffusionRequest, control_image: Image.Image, interruption: Interruption) -> Image.Image:
        pipeline = self.with_scheduler(request.scheduler)

        def after_step(_pipeline: Any, _step: int, _timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            interruption.check()
            return tensors

        result = pipeline(
            prompt=request.prompt,
            # None, not "": only then the pipeline uses the zeros that SDXL was trained with.
            negative_prompt=request.negative_prompt or None,
            image=control_image,
            width=control_image.width,
            height=control_image.height,
            num_inference_steps=request.num_inference_steps,
            guidance_scale=request.guidance_scale,
            # The pipeline swallows unknown names silently: this one, not `conditioning_scale`, has an effect.
            controlnet_conditioning_scale=request.conditioning_scale,
            control_guidance_start=request.control_guidance_start,
            control_guidance_end=request.control_guidance_end,
            # On the CPU whatever the device, so that a seed means the same picture everywhere.
            generator=torch.Generator("cpu").manual_seed(request.seed),
            output_type="pt",
            callback_on_step_end=after_step,
        )
        return to_picture(result.images[0])

    def with_scheduler(self, name: str) -> Any:
        """The same networks around a scheduler of this request's own; making it takes two milliseconds."""
        networks = self.networks
        pipeline = StableDiffusionXLControlNetPipeline(
            **{
                **networks.components,
                "scheduler": make_noise_scheduler(name, networks.scheduler.config),
            },
            force_zeros_for_empty_prompt=networks.config.force_zeros_for_empty_prompt,
            add_watermarker=False,
        )
        pipeline.set_progress_bar_config(disable=True)
        return pipeline


def to_picture(pixels: torch.Tensor) -> Image.Image:
    """A network that overflowed gives NaN, which would be saved as a black picture without a word."""
    if not bool(torch.isfinite(pixels).all()):
        raise RequestError(
            "generation_failed",
            "the networks gave numbers that are not finite; try another seed or a lower guidance_scale",
        )
    array = (pixels.float().clamp(0, 1) * 255).round().to(torch.uint8)  # (3, H, W)
    return Image.fromarray(array.permute(1, 2, 0).cpu().numpy())


def used_parameters(request: DiffusionRequest, size: tuple[int, int]) -> dict[str, Any]:
    """What made the picture, by the names of the inputs; prompts are the caller's and are not repeated."""
    return {
        "seed": request.seed,
        "num_inference_steps": request.num_inference_steps,
        "guidance_scale": request.guidance_scale,
        "conditioning_scale": request.conditioning_scale,
        "control_guidance_start": request.control_guidance_start,
        "control_guidance_end": request.control_guidance_end,
        "width": size[0],
        "height": size[1],
        "scheduler": request.scheduler,
        "output_format": request.output_format,
        "output_quality": request.output_quality,
        "invert": request.invert,
    }
