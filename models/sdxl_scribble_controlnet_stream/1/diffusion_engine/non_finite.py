# SPDX-License-Identifier: Apache-2.0
"""Finds the network that first returned numbers that are not finite, by repeating the step of a failed request."""

import copy
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch.utils._pytree import tree_leaves

from diffusion_engine.denoiser import Denoiser
from diffusion_engine.errors import RequestError, attempt
from diffusion_engine.networks import Networks
from diffusion_engine.request_state import RequestState

TEXTS, CONTROLNET, UNET = "The text encoders", "The ControlNet", "The UNet"
LORAS = "The UNet with the request's LoRAs"  # without them, its numbers are finite
SCHEDULER, UNKNOWN = "The noise scheduler", "One of the networks"


def non_finite_error(networks: Networks, state: RequestState) -> RequestError:
    """The error of a request whose latents are not finite after a step. Takes as long as a pass or two of it."""
    found = attempt(lambda: first_not_finite(networks, state))
    cause = UNKNOWN if isinstance(found, RequestError) else found
    dtype = str(networks.dtype).removeprefix("torch.")
    return RequestError(
        "generation_failed",
        f"{cause} returned numbers that are not finite in step {state.step_index} of {state.num_steps}, in {dtype}. "
        + advice(cause, networks.dtype, has_text_loras=any(lora.changes_texts for lora in state.loras)),
    )


def advice(cause: str, dtype: torch.dtype, *, has_text_loras: bool) -> str:
    """What clients and operators can do."""
    overflow = (
        " If this recurs, the operator must set `dtype` to bfloat16 or float32." if dtype is torch.float16 else ""
    )
    if cause == LORAS or (cause == TEXTS and has_text_loras):
        return "Lower the scales of `loras`, or leave them out."
    if cause == TEXTS:
        return "No other `seed` helps." + (overflow or " Their weights may be damaged.")
    if cause == CONTROLNET:
        return "Try another scribble, or 0 as `conditioning_scale`." + (overflow or " Its weights may be damaged.")
    return "Try another `seed` or a lower `guidance_scale`." + overflow


@torch.inference_mode()
def first_not_finite(networks: Networks, state: RequestState) -> str:
    """The part whose result was not finite first, in the request's last pass."""
    encoded = state.encoded
    if not all(are_finite(text.tokens, text.pooled) for text in all_texts(encoded.texts)):
        return TEXTS
    if not are_finite(encoded.control):
        return CONTROLNET
    if not are_finite(encoded.last_input):
        return UNKNOWN
    before = copy.copy(state)
    # Its pass must not end early.
    before.cancelled_at, before.request = None, replace(state.request, timeout_s=None)
    before.step_index = encoded.last_pass
    before.encoded = replace(encoded, latents=encoded.last_input)
    cause = first_in_pass(networks, before)
    if cause == UNET and encoded.adapters:
        before.encoded = replace(before.encoded, adapters=())
        return LORAS if first_in_pass(networks, before) == SCHEDULER else UNET
    return cause


def first_in_pass(networks: Networks, state: RequestState) -> str:
    """The network whose result is not finite in the request's next pass; the noise scheduler if all are."""
    causes: list[str] = []
    watched = replace(
        networks,
        controlnet=Watched(networks.controlnet, CONTROLNET, causes),
        unet=Watched(networks.unet, UNET, causes),
        adapted_unet=Watched(networks.adapted_unet, UNET, causes),
        merged_unet=None,
        cpu_parallel_size=1,
    )
    Denoiser(watched).predict([state])
    return causes[0] if causes else SCHEDULER


def all_texts(rows: list[list[Any]]) -> Iterator[Any]:
    """The different embeddings of all rows and steps."""
    return iter({id(text): text for row in rows for text in row}.values())


def are_finite(*values: Any) -> bool:
    return all(bool(value.isfinite().all()) for value in values if isinstance(value, torch.Tensor))


class Watched:
    """A network that adds its name to `causes` if its result is not finite."""

    def __init__(self, network: Any, name: str, causes: list[str]) -> None:
        self._network = network
        self._name = name
        self._causes = causes

    def __getattr__(self, name: str) -> Any:
        return getattr(self._network, name)

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        result = self._network(*arguments, **options)
        if not are_finite(*tree_leaves(result)):
            self._causes.append(self._name)
        return result
