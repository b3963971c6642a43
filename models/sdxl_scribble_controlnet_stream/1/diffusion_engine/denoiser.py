# SPDX-License-Identifier: Apache-2.0
"""Predicts the noise of several requests, each at its own step, in one batched pass of ControlNet and UNet."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import torch

from diffusion_engine import text_rows
from diffusion_engine.cpu_parallel import CPUParallel
from diffusion_engine.loras.batch import AdapterBatch, AdapterStack, AdapterStacks
from diffusion_engine.networks import Networks
from diffusion_engine.request_state import RequestState
from diffusion_engine.text_encoder import TextEmbedding


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
    loras: AdapterBatch | None = None  # None: no row has adapters


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a pass: the unconditional (0) or the conditional row (the last) of a request."""

    state: RequestState
    index: int

    @property
    def text(self) -> TextEmbedding:
        """Its text in the next step."""
        text: TextEmbedding = self.state.encoded.texts[self.index][self.state.step_index]
        return text


# What the inputs of a batch depend on: of each row, the request, whether its scribble counts, and its text.
BatchContent = tuple[tuple[RequestState, bool, TextEmbedding], ...]
# The indices of each part's rows, and the inputs of each part.
Parts = tuple[list[list[int]], list[InputBatch]]


class Denoiser:
    """Runs the networks. Keeps the input batch of a step, because the next step usually has the same requests."""

    def __init__(self, networks: Networks) -> None:
        self._networks = networks
        self.cpu_parallel = CPUParallel(networks.cpu_parallel_size)
        self._adapter_stacks = AdapterStacks()
        self._last_batch: tuple[BatchContent, Parts] | None = None

    @torch.inference_mode()
    def predict(self, states: Sequence[RequestState]) -> list[torch.Tensor]:
        """The noise prediction of each request with guidance applied, (1, 4, h, w), from one pass of each network."""
        rows = [Row(state, index) for state in states for index in range(state.num_rows)]
        parts, batches = self._parts(rows)
        sizes, order = [len(part) for part in parts], [row for part in parts for row in part]
        inputs = {state: self._input(state) for state in states}
        latents = torch.cat([inputs[rows[row].state] for row in order])  # (R, 4, h, w)
        timesteps = torch.stack([self._timestep(rows[row].state) for row in order])
        timesteps = timesteps.to(latents.device, non_blocking=True)  # (R,)
        each_part = zip(batches, torch.split(latents, sizes), torch.split(timesteps, sizes), strict=True)
        noise = torch.cat(self.cpu_parallel.run([partial(self._pass, *part) for part in each_part]))  # (R, 4, h, w)
        by_row = dict(zip(order, torch.split(noise, 1), strict=True))
        return self._guided(states, [by_row[row] for row in range(len(rows))])

    @torch.inference_mode()
    def _pass(self, batch: InputBatch, latents: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        down, mid = self._residuals(batch, latents, timesteps)
        has_loras = batch.loras is not None
        unet = partial(self._networks.adapted_unet, loras=batch.loras) if has_loras else self._networks.unet
        noise: torch.Tensor = unet(
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
        self._adapter_stacks.clear()

    def _input(self, state: RequestState) -> torch.Tensor:
        encoded = state.encoded
        scaled: torch.Tensor = encoded.schedule.scale(encoded.latents, state.step_index).to(self._networks.dtype)
        return scaled

    def _timestep(self, state: RequestState) -> torch.Tensor:
        # In fp32, since some schedulers count in floats and others in integers.
        timestep: torch.Tensor = state.encoded.schedule.timesteps[state.step_index]
        return timestep.to(torch.float32)

    def _parts(self, rows: Sequence[Row]) -> Parts:
        """The rows of each part of the pass, and their inputs."""
        # The requests themselves, not their ids: a new request may get the id of a freed one.
        key = tuple((row.state, row.state.has_control, row.text) for row in rows)
        if self._last_batch is None or self._last_batch[0] != key:
            parts = self._split(rows)
            stack = self._adapter_stacks.stack({row.state.encoded.adapters for row in rows})
            self._last_batch = (key, (parts, [self._gather([rows[row] for row in part], stack) for part in parts]))
        return self._last_batch[1]

    def _split(self, rows: Sequence[Row]) -> list[list[int]]:
        """The rows that share a pass: usually all. On a CPU, parts of nearly equal size that run in parallel."""
        parts = text_rows.groups([row.text.tokens.shape[1] for row in rows])
        num_rows, num_parts = len(rows), self.cpu_parallel.size
        if len(parts) > 1 or num_parts == 1 or num_rows < num_parts:
            return [self._with_adapters_first(rows, part) for part in parts]
        if any(row.state.encoded.adapters for row in rows):  # each part gets its share of them
            ordered = self._with_adapters_first(rows, range(num_rows))
            return [ordered[part::num_parts] for part in range(num_parts)]
        bounds = [num_rows * part // num_parts for part in range(num_parts + 1)]
        return [list(range(start, stop)) for start, stop in pairwise(bounds)]

    @staticmethod
    def _with_adapters_first(rows: Sequence[Row], part: Sequence[int]) -> list[int]:
        """As `AdapterStack.batch` needs them."""
        return sorted(part, key=lambda row: not rows[row].state.encoded.adapters)

    def _gather(self, rows: Sequence[Row], adapters: AdapterStack | None) -> InputBatch:
        encodings = [row.state.encoded for row in rows]
        controlled = [index for index, row in enumerate(rows) if row.state.has_control]
        scales = [rows[index].state.request.conditioning_scale for index in controlled]
        device = self._networks.device
        return InputBatch(
            prompt_embeds=text_rows.joined([row.text.tokens for row in rows]),
            pooled_prompt_embeds=torch.cat([row.text.pooled for row in rows]),
            time_ids=torch.cat([encoded.time_ids for encoded in encodings]),
            control=torch.cat([encodings[index].control for index in controlled]) if controlled else None,
            control_rows=(
                torch.tensor(controlled).to(device, non_blocking=True) if 0 < len(controlled) < len(rows) else None
            ),
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
            loras=adapters.batch([encoded.adapters for encoded in encodings]) if adapters else None,
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
    def _guided(states: Sequence[RequestState], noise: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Classifier-free guidance, request by request: u + g (c - u)."""
        predictions, row = [], 0
        for state in states:
            prediction = noise[row]
            if state.is_guided:
                prediction = prediction + state.request.guidance_scale * (noise[row + 1] - prediction)
            predictions.append(prediction)
            row += state.num_rows
        return predictions
