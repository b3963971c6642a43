# SPDX-License-Identifier: Apache-2.0
"""Predicts the noise of several requests, each at its own step, in one batched pass of ControlNet and UNet."""

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import torch

from diffusion_engine import text_rows
from diffusion_engine.cpu_parallel import CPUParallel
from diffusion_engine.loras.batch import AdapterBatch, AdapterStack, AdapterStacks, ScaledAdapters
from diffusion_engine.loras.merged import MergedUNet
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
    loras: AdapterBatch | None = None  # None: no row has adapters, or those of all are merged


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


@dataclass(frozen=True, slots=True)
class PassPlan:
    """What stays the same while the same N requests share passes. The R rows are in the order of the parts."""

    unet: Any  # for the parts whose rows need no adapters of their own
    inputs: list[InputBatch]  # of each part
    sizes: list[int]  # the number of rows of each part
    requests: torch.Tensor  # (R,) each row's request
    first_rows: torch.Tensor  # (N,) each request's first row: the unconditional one, if it has guidance
    last_rows: torch.Tensor  # (N,) each request's last row: the conditional one
    guidance_scales: torch.Tensor | None  # (N, 1, 1, 1) in fp32; None: no request has guidance


# What a plan depends on: of each row, the request, whether its scribble counts, and its text.
PassContent = tuple[tuple[RequestState, bool, TextEmbedding], ...]


class Denoiser:
    """Runs the networks. Keeps the plan of a pass, because the next step usually has the same requests.

    Args:
        meanwhile: entered while parts of a pass run on other threads.
    """

    def __init__(
        self, networks: Networks, *, meanwhile: Callable[[], AbstractContextManager[None]] = nullcontext
    ) -> None:
        self._networks = networks
        self.cpu_parallel = CPUParallel(networks.cpu_parallel_size, meanwhile=meanwhile)
        self._adapter_stacks = AdapterStacks()
        self._last_plan: tuple[PassContent, PassPlan] | None = None

    @torch.inference_mode()
    def predict(self, states: Sequence[RequestState]) -> list[torch.Tensor]:
        """The noise prediction of each request with guidance applied, (1, 4, h, w), from one pass of each network.

        Returns none at all if nobody waits for any of the requests any more: then the pass ends before its UNet.
        """
        plan = self._plan(states)
        latents = torch.cat([self._input(state) for state in states]).index_select(0, plan.requests)  # (R, 4, h, w)
        timesteps = self._timesteps(states).index_select(0, plan.requests)  # (R,)
        each_part = zip(plan.inputs, torch.split(latents, plan.sizes), torch.split(timesteps, plan.sizes), strict=True)
        passes = [partial(self._pass, plan.unet, *part, states) for part in each_part]
        parts = self.cpu_parallel.run(passes)
        predicted = [part for part in parts if part is not None]
        if len(predicted) < len(parts):
            return []
        noise = torch.cat(predicted)  # (R, 4, h, w)
        return list(torch.split(self._guided(noise, plan), 1))

    @torch.inference_mode()
    def _pass(
        self,
        unet: Any,
        batch: InputBatch,
        latents: torch.Tensor,
        timesteps: torch.Tensor,
        states: Sequence[RequestState],
    ) -> torch.Tensor | None:
        """The noise of a part's rows; None if nobody waits for the requests of the whole pass.

        An exception instead would keep the part's tensors, in a cycle with its future.
        """
        down, mid = self._residuals(batch, latents, timesteps)
        if all(state.interruption(time.monotonic()) for state in states):
            return None
        if batch.loras is not None:
            unet = partial(self._networks.adapted_unet, loras=batch.loras)
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
        """Free the tensors of the last plan. For an idle engine."""
        self._last_plan = None
        self._adapter_stacks.clear()

    def _input(self, state: RequestState) -> torch.Tensor:
        encoded = state.encoded
        scaled: torch.Tensor = encoded.schedule.scale(encoded.latents, state.step_index).to(self._networks.dtype)
        return scaled

    def _timesteps(self, states: Sequence[RequestState]) -> torch.Tensor:
        """(N,) in fp32, since some schedulers count in floats and others in integers."""
        timesteps = [float(state.encoded.schedule.timesteps[state.step_index]) for state in states]
        return self._on_device(torch.tensor(timesteps, dtype=torch.float32))

    def _plan(self, states: Sequence[RequestState]) -> PassPlan:
        rows = [Row(state, index) for state in states for index in range(state.num_rows)]
        # The requests themselves, not their ids: a new request may get the id of a freed one.
        content = tuple((row.state, row.state.has_control, row.text) for row in rows)
        if self._last_plan is None or self._last_plan[0] != content:
            self._last_plan = None  # if the next one fails, the merged UNet may no longer be that of the last one
            self._last_plan = (content, self._new_plan(states, rows))
        return self._last_plan[1]

    def _new_plan(self, states: Sequence[RequestState], rows: Sequence[Row]) -> PassPlan:
        parts = [[rows[row] for row in part] for part in self._split(rows)]
        combinations = {state.encoded.adapters for state in states}
        unet = self._merged_unet(combinations)
        stack = None if unet else self._adapter_stacks.stack(combinations)
        ordered = [row for part in parts for row in part]
        scales = [state.request.guidance_scale if state.is_guided else 1.0 for state in states]
        return PassPlan(
            unet=unet or self._networks.unet,
            inputs=[self._gather(part, stack) for part in parts],
            sizes=[len(part) for part in parts],
            requests=self._on_device(torch.tensor([states.index(row.state) for row in ordered])),
            first_rows=self._on_device(torch.tensor([ordered.index(Row(state, 0)) for state in states])),
            last_rows=self._on_device(
                torch.tensor([ordered.index(Row(state, state.num_rows - 1)) for state in states])
            ),
            guidance_scales=self._scales(scales),
        )

    def _merged_unet(self, combinations: set[ScaledAdapters]) -> MergedUNet | None:
        """The UNet with the only combination of adapters; None if there are several, or it has none."""
        merged = self._networks.merged_unet
        if merged is None or len(combinations) > 1 or combinations == {()}:
            return None
        merged.merge(*combinations)
        return merged

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
        has_all = len(controlled) in (0, len(rows))
        return InputBatch(
            prompt_embeds=text_rows.joined([row.text.tokens for row in rows]),
            pooled_prompt_embeds=torch.cat([row.text.pooled for row in rows]),
            time_ids=torch.cat([encoded.time_ids for encoded in encodings]),
            control=torch.cat([encodings[index].control for index in controlled]) if controlled else None,
            control_rows=None if has_all else self._on_device(torch.tensor(controlled)),
            control_scales=self._scales([rows[index].state.request.conditioning_scale for index in controlled]),
            guidance_embeds=(
                torch.cat([encoded.guidance_embeds for encoded in encodings])
                if self._networks.is_guided_by_embedding
                else None
            ),
            loras=adapters.batch([encoded.adapters for encoded in encodings]) if adapters else None,
        )

    def _scales(self, values: Sequence[float]) -> torch.Tensor | None:
        """(len(values), 1, 1, 1) in fp32; None if all are 1."""
        if all(value == 1 for value in values):
            return None
        return self._on_device(torch.tensor(values, dtype=torch.float32)).view(-1, 1, 1, 1)

    def _on_device(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.to(self._networks.device, non_blocking=True)

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
    def _guided(noise: torch.Tensor, plan: PassPlan) -> torch.Tensor:
        """Classifier-free guidance: u + g (c - u), (N, 4, h, w). Requests without it have a g of 1, and u is c."""
        conditional = noise.index_select(0, plan.last_rows)
        if plan.guidance_scales is None:
            return conditional
        unconditional = noise.index_select(0, plan.first_rows)
        # In fp32 before the cast, as with a Python number.
        return unconditional + (plan.guidance_scales * (conditional - unconditional)).to(noise.dtype)
