# SPDX-License-Identifier: Apache-2.0
"""Prepares a request's tensors for the steps: prompt → embeddings, scribble → control embedding, seed → latents."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from diffusion_engine.capabilities import MAX_PROMPT_CHUNKS
from diffusion_engine.kept_region import KeptRegion
from diffusion_engine.loras.batch import ScaledAdapters
from diffusion_engine.loras.library import LoRALibrary
from diffusion_engine.loras.text import adapted_text_encoders
from diffusion_engine.networks import Networks
from diffusion_engine.noise_scheduler import NoiseSchedule, NoiseSchedulers
from diffusion_engine.request_state import RequestState
from diffusion_engine.step_cache import StepCache
from diffusion_engine.text_encoder import TextEmbedding, TextEncoder
from diffusion_engine.vae_encoder import VAEEncoder

# Adapters and scales whose recent texts are kept. Each keeps its adapters in memory.
MAX_ADAPTED_TEXT_ENCODERS = 4


@dataclass(slots=True, kw_only=True)
class Encoded:
    """One request's tensors. R rows: 2 with guidance, the unconditional one first; else 1."""

    latents: torch.Tensor  # (1, 4, h, w)
    schedule: NoiseSchedule
    generator: torch.Generator
    texts: list[list[TextEmbedding]]  # of each of the R rows, for each step
    time_ids: torch.Tensor  # (1, 6)
    control: torch.Tensor | None  # (1, C, h, w)
    guidance_embeds: torch.Tensor | None = None  # (1, G), for a UNet that takes the guidance scale as an input
    kept: KeptRegion | None = None  # for a request with a mask
    adapters: ScaledAdapters = ()
    predicted_clean: torch.Tensor | None = None  # (1, 4, h, w), after the first step
    last_input: torch.Tensor | None = None  # (1, 4, h, w), the latents before the last step that had a pass
    last_pass: int = 0  # the index of that step
    step_cache: StepCache | None = None  # None: each step needs a pass


class Encoder:
    """Encodes requests. For the engine's thread only."""

    def __init__(
        self,
        networks: Networks,
        schedulers: NoiseSchedulers,
        *,
        max_prompt_chunks: int = MAX_PROMPT_CHUNKS,
        library: LoRALibrary | None = None,
    ) -> None:
        self._networks = networks
        self._schedulers = schedulers
        self._library = library
        self._max_prompt_chunks = max_prompt_chunks
        self.text_encoder = TextEncoder(networks, max_chunks=max_prompt_chunks)
        self._adapted_text_encoders: OrderedDict[ScaledAdapters, TextEncoder] = OrderedDict()
        self._vae_encoder = VAEEncoder(networks)

    @torch.inference_mode()
    def encode(self, state: RequestState) -> Encoded:
        """The request's tensors: those that are the same in each step, and the initial noise."""
        request = state.request
        schedule = self._schedulers.schedule(request)
        state.scheduled_steps = schedule.num_steps
        adapters = self._library.adapters(request.loras) if self._library and request.loras else ()
        texts = self._encode_texts(state, adapters)
        # On the CPU on every device, so that a seed gives the same noise everywhere.
        generator = torch.Generator("cpu").manual_seed(request.seed)
        latents, kept = self._start(state, schedule, generator)
        return Encoded(
            latents=latents,
            kept=kept,
            schedule=schedule,
            generator=generator,
            texts=texts,
            time_ids=self._time_ids(state.key.width, state.key.height),
            control=self._control(state.control_image),
            guidance_embeds=self._guidance(request.guidance_scale),
            adapters=tuple((adapter, scale) for adapter, scale in adapters if adapter.rank),
            step_cache=StepCache.of(state, texts),
        )

    def read_texts(self, states: Sequence[RequestState]) -> None:
        """Encode the texts of requests that start together, except those whose adapters change texts."""
        plain = [state for state in states if not any(lora.changes_texts for lora in state.loras)]
        if plain:
            self.text_encoder.read_texts(plain)

    def _encode_texts(self, state: RequestState, adapters: ScaledAdapters) -> list[list[TextEmbedding]]:
        """The texts of a request's rows. Texts of different adapters have separate caches."""
        adapters = tuple((adapter, scale) for adapter, scale in adapters if adapter.changes_texts)
        if not adapters:
            return self.text_encoder.encode(state)
        text_encoder = self._adapted_text_encoders.pop(adapters, None) or TextEncoder(
            self._networks, max_chunks=self._max_prompt_chunks, cache_size=16
        )
        self._adapted_text_encoders[adapters] = text_encoder
        if len(self._adapted_text_encoders) > MAX_ADAPTED_TEXT_ENCODERS:
            self._adapted_text_encoders.popitem(last=False)
        pipeline = self._networks.pipeline
        with adapted_text_encoders((pipeline.text_encoder, pipeline.text_encoder_2), adapters):
            return text_encoder.encode(state)

    def _start(
        self, state: RequestState, schedule: NoiseSchedule, generator: torch.Generator
    ) -> tuple[torch.Tensor, KeptRegion | None]:
        """The latents before the first step, and what a mask keeps. Draws random numbers in diffusers' order."""
        if state.init_image is None:
            return self._noise(state, generator) * schedule.init_noise_sigma, None
        clean = self._vae_encoder.initial_latents(state, generator)
        noise = self._noise(state, generator)
        if state.mask is None:
            return schedule.add_noise(clean, noise, 0), None
        # diffusers also encodes the kept part alone, for UNets that take it as an input.
        self._vae_encoder.skip_sample(clean, generator)
        is_from_noise = state.request.strength == 1
        latents = noise * schedule.init_noise_sigma if is_from_noise else schedule.add_noise(clean, noise, 0)
        return latents, KeptRegion.of(state.at_made_size(state.mask), clean, noise, state.notes.append)

    def _noise(self, state: RequestState, generator: torch.Generator) -> torch.Tensor:
        factor = self._networks.vae_scale_factor
        shape = (
            1,
            self._networks.unet.config.in_channels,
            state.key.height // factor,
            state.key.width // factor,
        )
        return self._on_device(torch.randn(shape, generator=generator, dtype=self._networks.dtype))

    def _time_ids(self, width: int | None, height: int | None) -> torch.Tensor:
        # Original size, top left corner of the crop, target size: each height first.
        values = [height, width, 0, 0, height, width]
        return self._on_device(torch.tensor([values], dtype=self._networks.dtype))  # (1, 6)

    def _guidance(self, guidance_scale: float) -> torch.Tensor | None:
        if not self._networks.is_guided_by_embedding:
            return None
        embedding: torch.Tensor = self._networks.pipeline.get_guidance_scale_embedding(
            torch.tensor([guidance_scale - 1]),
            embedding_dim=self._networks.unet.config.time_cond_proj_dim,
        )
        return self._on_device(embedding.to(self._networks.dtype))

    def _control(self, image: Any) -> torch.Tensor | None:
        if image is None:
            return None
        # Copied as bytes, and converted on the device.
        pixels = self._on_device(torch.from_numpy(np.array(image))).permute(2, 0, 1)[None]  # (1, 3, H, W), 0 or 255
        embedding: torch.Tensor = self._networks.control_embedding(
            pixels.to(torch.float32).div(255).to(self._networks.dtype)
        )
        return embedding

    def _on_device(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.to(self._networks.device, non_blocking=True)
