# SPDX-License-Identifier: Apache-2.0
"""The region of the initial picture that a mask keeps. It is put back into the latents after each step."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from diffusion_engine.noise_scheduler import NoiseSchedule, StepResult


@dataclass(frozen=True, slots=True)
class KeptRegion:
    """As in diffusers' inpaint pipelines for a UNet without extra channels."""

    painted: torch.Tensor  # (1, 1, h, w), 1 for the cells that are painted anew, 0 for those that are kept
    clean: torch.Tensor  # (1, 4, h, w), the latents of the initial picture
    noise: torch.Tensor  # (1, 4, h, w)

    @classmethod
    def of(
        cls, mask: Image.Image, clean: torch.Tensor, noise: torch.Tensor, note: Callable[[str], None]
    ) -> "KeptRegion":
        """From a mask (L) at the size of the picture. At least half-white pixels are painted anew."""
        pixels = torch.from_numpy(np.array(mask) >= 128)[None, None].to(torch.float32)  # (1, 1, H, W)
        cells = torch.nn.functional.interpolate(pixels, size=clean.shape[-2:])
        if not bool(cells.any()):  # on the CPU, so it waits for nothing
            note("`mask` selects only parts of latent cells, which are 8 pixels wide in SDXL, so nothing was painted.")
        return cls(cells.to(clean.device, clean.dtype), clean, noise)

    def restore(self, result: StepResult, schedule: NoiseSchedule, num_done: int) -> StepResult:
        """The result of the step, with the kept cells at the same noise level. `num_done`: the steps so far."""
        kept = self.clean
        if num_done < schedule.num_steps:
            kept = schedule.add_noise(self.clean, self.noise, num_done)
        return StepResult(self._blend(kept, result.latents), self._blend(self.clean, result.predicted_clean))

    def _blend(self, kept: torch.Tensor, painted: torch.Tensor) -> torch.Tensor:
        return (1 - self.painted) * kept + self.painted * painted
