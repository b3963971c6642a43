# SPDX-License-Identifier: Apache-2.0
"""Runs the VAE on a whole picture, or on tiles if the picture is too large for the memory."""

from collections.abc import Callable
from typing import Any, TypeVar

import torch

from diffusion_engine.errors import is_out_of_memory
from diffusion_engine.networks import Networks
from diffusion_engine.request_state import RequestState

T = TypeVar("T")
NOTE = "the GPU's memory was too small for the whole picture, so the VAE ran in tiles, which changes some colours"


def whole_or_tiled(networks: Networks, state: RequestState, run: Callable[[bool], T]) -> T:
    """The result of `run` with or without tiles, as the engine's plan says. If memory runs out, with tiles, once."""
    if not networks.memory.is_tiled(state.key.width, state.key.height):
        try:
            return run(False)
        except RuntimeError as error:
            # Tiles change colours, so at another moment a reproducible request would get other pixels.
            if not is_out_of_memory(error) or state.request.reproducible or fits_into_tile(networks.tiled_vae, state):
                raise
        torch.cuda.empty_cache()  # not in the handler: the exception keeps the tensors of the failed run
        if NOTE not in state.notes:
            state.notes.append(NOTE)
    state.is_tiled = True
    return run(True)


def fits_into_tile(tiled_vae: Any, state: RequestState) -> bool:
    return bool(max(state.key.width, state.key.height) <= tiled_vae.tile_sample_min_size)
