# SPDX-License-Identifier: Apache-2.0
"""Predicts the noise of several requests, each at its own step, in one batched pass of ControlNet and UNet."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import torch

from diffusion_engine.cpu_parallel import CPUParallel
from diffusion_engine.networks import Networks
from diffusion_engine.request_state import RequestState


@dataclass(frozen=True, slots=True)
class InputBatch:
    """The tensors that stay the same while the same requests share passes. R rows, C of them with a control image."""

    prompt_embeds: torch.Tensor  # (R, S, D)
    pooled_prompt_embeds: torch.Tensor  # (R, P)
    time_ids: torch.Tensor  # (R, 6)
    control: torch.Tensor | None  # (C, channels, h, w)
    control_rows: torch.Tensor | None  # (C,) their indices among the R; None: all of them
    control_scales: torch.Tensor | None  # (C, 1, 1, 1) in fp32; None: all are 1
    guidance_embeds: torch.Tensor | None  # (R, G), for a UNet that takes the guidance scale as an input

    def part(self, start: int, stop: int) -> "InputBatch":
        """A batch of some of the rows."""
        rows, controlled, positions = slice(start, stop), slice(start, stop), None
        if self.control_rows is not None:
            first, last = (int((self.control_rows < bound).sum()) for bound in (start, stop))  # they are in order
            controlled = slice(first, last)
            positions = self.control_rows[controlled] - start if last - first < stop - start else None
        control = None if self.control is None else self.control[controlled]
        return InputBatch(
            prompt_embeds=self.prompt_embeds[rows],
            pooled_prompt_embeds=self.pooled_prompt_embeds[rows],
            time_ids=self.time_ids[rows],
            control=control if control is not None and len(control) > 0 else None,
            control_rows=positions,
            control_scales=None if self.control_scales is None else self.control_scales[controlled],
            guidance_embeds=None if self.guidance_embeds is None else self.guidance_embeds[rows],
        )


class Denoiser:
    """Runs the networks. Keeps the input batch of a step, because the next step usually has the same requests."""

    def __init__(self, networks: Networks) -> None:
        self._networks = networks
        self.cpu_parallel = CPUParallel(networks.cpu_parallel_size)
        self._last_batch: tuple[tuple[tuple[RequestState, bool], ...], list[InputBatch]] | None = None

    @torch.inference_mode()
    def predict(self, states: Sequence[RequestState]) -> list[torch.Tensor]:
        """The noise prediction of each request with guidance applied, (1, 4, h, w), from one pass of each network."""
        parts = self._input_batches(states)
        sizes = [len(part.prompt_embeds) for part in parts]
        latents = torch.cat([self._input(each) for each in states])  # (R, 4, h, w)
        timesteps = torch.stack([self._timestep(each) for each in states for _ in range(each.num_rows)])
        timesteps = timesteps.to(latents.device, non_blocking=True)  # (R,)
        each_part = zip(parts, torch.split(latents, sizes), torch.split(timesteps, sizes), strict=True)
        noise = torch.cat(self.cpu_parallel.run([partial(self._pass, *part) for part in each_part]))  # (R, 4, h, w)
        return self._guided(states, noise)

    @torch.inference_mode()
    def _pass(self, batch: InputBatch, latents: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        down, mid = self._residuals(batch, latents, timesteps)
        noise: torch.Tensor = self._networks.unet(
            latents,
            timesteps,
            encoder_hidden_states=batch.prompt_embeds,
            timestep_cond=batch.guidance_embeds,
            added_cond_kwargs={"text_embeds": batch.pooled_prompt_embeds, "time_ids": batch.time_ids},
            down_block_additional_residuals=down,
            mid_block_additional_residual=mid,
            return_dict=False,
        )[0]
        return noise

    def clear_cache(self) -> None:
        """Free the tensors of the last batch. For an idle engine."""
        self._last_batch = None

    def _input(self, state: RequestState) -> torch.Tensor:
        encoded = state.encoded
        scaled = encoded.schedule.scale(encoded.latents, state.step_index).to(self._networks.dtype)
        rows: torch.Tensor = scaled.expand(state.num_rows, -1, -1, -1)
        return rows

    def _timestep(self, state: RequestState) -> torch.Tensor:
        # In fp32, since some schedulers count in floats and others in integers.
        timestep: torch.Tensor = state.encoded.schedule.timesteps[state.step_index]
        return timestep.to(torch.float32)

    def _input_batches(self, states: Sequence[RequestState]) -> list[InputBatch]:
        # The requests themselves, not their ids: a new request may get the id of a freed one.
        key = tuple((each, each.has_control) for each in states)
        if self._last_batch is None or self._last_batch[0] != key:
            self._last_batch = (key, self._split(self._gather(states)))
        return self._last_batch[1]

    def _split(self, batch: InputBatch) -> list[InputBatch]:
        """Parts of nearly equal size that run in parallel on a CPU; one part if there are fewer rows than parts."""
        num_rows, num_parts = len(batch.prompt_embeds), self.cpu_parallel.size
        if num_parts == 1 or num_rows < num_parts:
            return [batch]
        bounds = [num_rows * part // num_parts for part in range(num_parts + 1)]
        return [batch.part(start, stop) for start, stop in pairwise(bounds)]

    def _gather(self, states: Sequence[RequestState]) -> InputBatch:
        encodings = [each.encoded for each in states]
        control: list[torch.Tensor] = []
        rows: list[int] = []
        scales: list[float] = []
        row = 0
        for state, encoded in zip(states, encodings, strict=True):
            if state.has_control:
                control.append(encoded.control.expand(state.num_rows, -1, -1, -1))
                rows += range(row, row + state.num_rows)
                scales += [state.request.conditioning_scale] * state.num_rows
            row += state.num_rows
        device = self._networks.device
        return InputBatch(
            prompt_embeds=torch.cat([encoded.prompt_embeds for encoded in encodings]),
            pooled_prompt_embeds=torch.cat([encoded.pooled_prompt_embeds for encoded in encodings]),
            time_ids=torch.cat([encoded.time_ids for encoded in encodings]),
            control=torch.cat(control) if control else None,
            control_rows=torch.tensor(rows).to(device, non_blocking=True) if len(rows) < row else None,
            control_scales=(
                torch.tensor(scales, dtype=torch.float32).to(device, non_blocking=True).view(-1, 1, 1, 1)
                if any(scale != 1 for scale in scales)
                else None
            ),
            guidance_embeds=(
                torch.cat([encoded.guidance_embeds for encoded in encodings])
                if self._networks.is_guided_by_embedding
                else None
            ),
        )

    def _residuals(
        self, batch: InputBatch, latents: torch.Tensor, timesteps: torch.Tensor
    ) -> tuple[list[torch.Tensor] | None, torch.Tensor | None]:
        """The ControlNet's residuals, computed only for the rows that have a control image; None if no row has one."""
        if batch.control is None:
            return None, None
        rows = batch.control_rows
        text, pooled, time_ids = batch.prompt_embeds, batch.pooled_prompt_embeds, batch.time_ids
        if rows is not None:
            latents, timesteps, text, pooled, time_ids = (
                each[rows] for each in (latents, timesteps, text, pooled, time_ids)
            )
        down, mid = self._networks.controlnet(
            latents,
            timesteps,
            encoder_hidden_states=text,
            controlnet_cond=batch.control,
            conditioning_scale=1.0,  # one scale for all rows; `_placed` applies each row's own
            guess_mode=False,
            added_cond_kwargs={"text_embeds": pooled, "time_ids": time_ids},
            return_dict=False,
        )
        num_rows = len(batch.prompt_embeds)
        return [self._placed(each, batch, num_rows) for each in down], self._placed(mid, batch, num_rows)

    @staticmethod
    def _placed(residual: torch.Tensor, batch: InputBatch, num_rows: int) -> torch.Tensor:
        """The residual of all rows: scaled by each row's `conditioning_scale`, and zero in rows without control image.

        It is scaled in fp32 before the cast, as with a Python number.
        """
        if batch.control_scales is not None:
            residual = (residual * batch.control_scales).to(residual.dtype)
        if batch.control_rows is None:
            return residual
        placed = residual.new_zeros((num_rows, *residual.shape[1:]))
        return placed.index_copy_(0, batch.control_rows, residual)

    @staticmethod
    def _guided(states: Sequence[RequestState], noise: torch.Tensor) -> list[torch.Tensor]:
        """Classifier-free guidance, request by request: u + g (c - u)."""
        predictions, row = [], 0
        for state in states:
            prediction = noise[row : row + 1]
            if state.is_guided:
                conditional = noise[row + 1 : row + 2]
                prediction = prediction + state.request.guidance_scale * (conditional - prediction)
            predictions.append(prediction)
            row += state.num_rows
        return predictions
