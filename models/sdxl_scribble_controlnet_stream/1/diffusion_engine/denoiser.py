# SPDX-License-Identifier: Apache-2.0
"""One batched ControlNet and UNet pass for requests at different steps, with guidance → a prediction for each."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import torch

from diffusion_engine.generation import Generation
from diffusion_engine.lanes import Lanes
from diffusion_engine.networks import Networks


@dataclass(frozen=True, slots=True)
class Company:
    """The tensors of a step that stay while the same requests share it. R rows in all, C of them controlled."""

    prompt_embeds: torch.Tensor  # (R, S, D)
    pooled_prompt_embeds: torch.Tensor  # (R, P)
    time_ids: torch.Tensor  # (R, 6)
    control: torch.Tensor | None  # (C, channels, h, w)
    control_rows: torch.Tensor | None  # (C,) their places among the R; None: all of them
    control_scales: torch.Tensor | None  # (C, 1, 1, 1) in fp32; None: all are 1
    guidance_embeds: torch.Tensor | None  # (R, G), for a UNet that takes the guidance scale as an input

    def part(self, start: int, stop: int) -> "Company":
        """Some of the rows, as a company of their own."""
        rows, controlled, places = slice(start, stop), slice(start, stop), None
        if self.control_rows is not None:
            first, last = (int((self.control_rows < bound).sum()) for bound in (start, stop))  # they are in order
            controlled = slice(first, last)
            places = self.control_rows[controlled] - start if last - first < stop - start else None
        control = None if self.control is None else self.control[controlled]
        return Company(
            prompt_embeds=self.prompt_embeds[rows],
            pooled_prompt_embeds=self.pooled_prompt_embeds[rows],
            time_ids=self.time_ids[rows],
            control=control if control is not None and len(control) > 0 else None,
            control_rows=places,
            control_scales=None if self.control_scales is None else self.control_scales[controlled],
            guidance_embeds=None if self.guidance_embeds is None else self.guidance_embeds[rows],
        )


class Denoiser:
    """Owns no state but the company of the last step, which usually meets again."""

    def __init__(self, networks: Networks) -> None:
        self._networks = networks
        self.lanes = Lanes(networks.num_lanes)
        self._last_company: tuple[tuple[tuple[Generation, bool], ...], list[Company]] | None = None

    @torch.inference_mode()
    def predict(self, generations: Sequence[Generation]) -> list[torch.Tensor]:
        """The guided noise prediction of each request, (1, 4, h, w), all from one pass of each network."""
        parts = self._company(generations)
        sizes = [len(part.prompt_embeds) for part in parts]
        latents = torch.cat([self._input(each) for each in generations])  # (R, 4, h, w)
        timesteps = torch.stack([self._timestep(each) for each in generations for _ in range(each.num_rows)])  # (R,)
        each_part = zip(parts, torch.split(latents, sizes), torch.split(timesteps, sizes), strict=True)
        noise = torch.cat(self.lanes.run([partial(self._pass, *part) for part in each_part]))  # (R, 4, h, w)
        return self._guided(generations, noise)

    @torch.inference_mode()
    def _pass(self, company: Company, latents: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        down, mid = self._residuals(company, latents, timesteps)
        num_rows = len(latents)
        pad = partial(_padded, num_rows=self._networks.padded_rows(num_rows))
        noise: torch.Tensor = self._networks.unet(
            pad(latents),
            pad(timesteps),
            encoder_hidden_states=pad(company.prompt_embeds),
            timestep_cond=None if company.guidance_embeds is None else pad(company.guidance_embeds),
            added_cond_kwargs={
                "text_embeds": pad(company.pooled_prompt_embeds),
                "time_ids": pad(company.time_ids),
            },
            down_block_additional_residuals=None if down is None else [pad(each) for each in down],
            mid_block_additional_residual=None if mid is None else pad(mid),
            return_dict=False,
        )[0]
        return noise[:num_rows]

    def forget(self) -> None:
        """Let go of the last company's tensors, when the engine has nothing to do."""
        self._last_company = None

    def _input(self, generation: Generation) -> torch.Tensor:
        state = generation.encoded
        scaled = state.schedule.scale(state.latents, generation.step_index).to(self._networks.dtype)
        rows: torch.Tensor = scaled.expand(generation.num_rows, -1, -1, -1)
        return rows

    def _timestep(self, generation: Generation) -> torch.Tensor:
        # In fp32, since some schedulers count in floats and others in integers.
        timestep: torch.Tensor = generation.encoded.schedule.timesteps[generation.step_index]
        return timestep.to(torch.float32)

    def _company(self, generations: Sequence[Generation]) -> list[Company]:
        # The requests themselves and not their addresses, of which a new one may get a gone one's.
        key = tuple((each, each.has_control) for each in generations)
        if self._last_company is None or self._last_company[0] != key:
            self._last_company = (key, self._dealt(self._gather(generations)))
        return self._last_company[1]

    def _dealt(self, company: Company) -> list[Company]:
        """A part for every lane, as equal as may be; all in one where there are fewer rows than lanes."""
        num_rows, count = len(company.prompt_embeds), self.lanes.count
        if count == 1 or num_rows < count:
            return [company]
        bounds = [num_rows * lane // count for lane in range(count + 1)]
        return [company.part(start, stop) for start, stop in pairwise(bounds)]

    def _gather(self, generations: Sequence[Generation]) -> Company:
        states = [each.encoded for each in generations]
        control: list[torch.Tensor] = []
        rows: list[int] = []
        scales: list[float] = []
        row = 0
        for generation, state in zip(generations, states, strict=True):
            if generation.has_control:
                control.append(state.control.expand(generation.num_rows, -1, -1, -1))
                rows += range(row, row + generation.num_rows)
                scales += [generation.request.conditioning_scale] * generation.num_rows
            row += generation.num_rows
        device = self._networks.device
        return Company(
            prompt_embeds=torch.cat([state.prompt_embeds for state in states]),
            pooled_prompt_embeds=torch.cat([state.pooled_prompt_embeds for state in states]),
            time_ids=torch.cat([state.time_ids for state in states]),
            control=torch.cat(control) if control else None,
            control_rows=torch.tensor(rows, device=device) if len(rows) < row else None,
            control_scales=(
                torch.tensor(scales, dtype=torch.float32, device=device).view(-1, 1, 1, 1)
                if any(scale != 1 for scale in scales)
                else None
            ),
            guidance_embeds=(
                torch.cat([state.guidance_embeds for state in states])
                if self._networks.is_guided_by_embedding
                else None
            ),
        )

    def _residuals(
        self, company: Company, latents: torch.Tensor, timesteps: torch.Tensor
    ) -> tuple[list[torch.Tensor] | None, torch.Tensor | None]:
        """The ControlNet's say, for the rows that it has one in; nothing where it has none in any."""
        if company.control is None:
            return None, None
        rows = company.control_rows
        text, pooled, time_ids = company.prompt_embeds, company.pooled_prompt_embeds, company.time_ids
        if rows is not None:
            latents, timesteps, text, pooled, time_ids = (
                each[rows] for each in (latents, timesteps, text, pooled, time_ids)
            )
        pad = partial(_padded, num_rows=self._networks.padded_rows(len(latents)))
        down, mid = self._networks.controlnet(
            pad(latents),
            pad(timesteps),
            encoder_hidden_states=pad(text),
            controlnet_cond=pad(company.control),
            conditioning_scale=1.0,  # its own argument knows one scale for all rows
            guess_mode=False,
            added_cond_kwargs={"text_embeds": pad(pooled), "time_ids": pad(time_ids)},
            return_dict=False,
        )
        num_rows = len(company.prompt_embeds)
        return [self._placed(each, company, num_rows) for each in down], self._placed(mid, company, num_rows)

    @staticmethod
    def _placed(residual: torch.Tensor, company: Company, num_rows: int) -> torch.Tensor:
        """Scaled row by row, in fp32 before the cast as a Python number would be; zero where there is no control."""
        if company.control is not None:
            residual = residual[: len(company.control)]
        if company.control_scales is not None:
            residual = (residual * company.control_scales).to(residual.dtype)
        if company.control_rows is None:
            return residual
        placed = residual.new_zeros((num_rows, *residual.shape[1:]))
        return placed.index_copy_(0, company.control_rows, residual)

    @staticmethod
    def _guided(generations: Sequence[Generation], noise: torch.Tensor) -> list[torch.Tensor]:
        """Classifier-free guidance, request by request: u + g (c - u)."""
        predictions, row = [], 0
        for generation in generations:
            prediction = noise[row : row + 1]
            if generation.is_guided:
                conditional = noise[row + 1 : row + 2]
                prediction = prediction + generation.request.guidance_scale * (conditional - prediction)
            predictions.append(prediction)
            row += generation.num_rows
        return predictions


def _padded(tensor: torch.Tensor, *, num_rows: int) -> torch.Tensor:
    """Rows of padding are copies of the last one: valid numbers, whose results are dropped."""
    missing = num_rows - len(tensor)
    return tensor if missing <= 0 else torch.cat([tensor, tensor[-1:].expand(missing, *tensor.shape[1:])])
