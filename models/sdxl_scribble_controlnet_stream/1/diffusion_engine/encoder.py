# SPDX-License-Identifier: Apache-2.0
"""Prepares a request's tensors for the steps: prompt → embeddings, scribble → control embedding, seed → latents."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from diffusion_engine.networks import Networks
from diffusion_engine.noise_scheduler import NoiseSchedule, NoiseSchedulers
from diffusion_engine.request_state import RequestState


@dataclass(frozen=True, slots=True)
class TextEmbedding:
    """The outputs of both text encoders for one text. S tokens; D and P are the encoders' widths."""

    tokens: torch.Tensor  # (1, S, D)
    pooled: torch.Tensor  # (1, P)
    was_alone: bool  # it was encoded in a pass without other texts


@dataclass(slots=True, kw_only=True)
class Encoded:
    """One request's tensors. R rows: 2 with guidance, the unconditional one first; else 1."""

    latents: torch.Tensor  # (1, 4, h, w)
    schedule: NoiseSchedule
    generator: torch.Generator
    prompt_embeds: torch.Tensor  # (R, S, D)
    pooled_prompt_embeds: torch.Tensor  # (R, P)
    time_ids: torch.Tensor  # (R, 6)
    control: torch.Tensor | None  # (1, C, h, w)
    guidance_embeds: torch.Tensor | None = None  # (R, G), for a UNet that takes the guidance scale as an input
    predicted_clean: torch.Tensor | None = None  # (1, 4, h, w), after the first step


class Encoder:
    """Encodes requests. For the engine's thread only: tokenizers are not thread-safe."""

    def __init__(self, networks: Networks, schedulers: NoiseSchedulers, *, text_cache_size: int = 256) -> None:
        self._networks = networks
        self._schedulers = schedulers
        self._texts: OrderedDict[str, TextEmbedding] = OrderedDict()
        self._text_cache_size = text_cache_size

    @torch.inference_mode()
    def encode(self, state: RequestState) -> Encoded:
        """The request's tensors: those that are the same in each step, and the initial noise."""
        request = state.request
        text = partial(self.text, is_alone=request.reproducible)
        texts = [text(request.prompt)]
        self._note_omitted_words(state, "prompt", request.prompt)
        if state.is_guided:
            texts.insert(0, self._negative(request.negative_prompt, text))
            self._note_omitted_words(state, "negative prompt", request.negative_prompt)
        schedule = self._schedulers.schedule(request.scheduler, request.num_inference_steps)
        # On the CPU on every device, so that a seed gives the same noise everywhere.
        generator = torch.Generator("cpu").manual_seed(request.seed)
        return Encoded(
            latents=self._noise(state, generator) * schedule.init_noise_sigma,
            schedule=schedule,
            generator=generator,
            prompt_embeds=torch.cat([text.tokens for text in texts]),
            pooled_prompt_embeds=torch.cat([text.pooled for text in texts]),
            time_ids=self._time_ids(request.width, request.height).expand(len(texts), -1),
            control=self._control(state.control_image),
            guidance_embeds=self._guidance(request.guidance_scale, len(texts)),
        )

    @torch.inference_mode()
    def read_texts(self, states: Sequence[RequestState]) -> None:
        """Encode the texts of requests that start together in one pass, which takes little longer than a single text.

        `text` encodes the texts of reproducible requests, each alone.
        """
        shared = [each for each in states if not each.request.reproducible]
        texts = [each.request.prompt for each in shared]
        texts += [each.request.negative_prompt for each in shared if each.is_guided]
        new = [text for text in dict.fromkeys(texts) if text not in self._texts]
        if len(new) > 1:
            for text, embedding in zip(new, self._read(new), strict=True):
                self._remember(text, embedding)

    def text(self, text: str, *, is_alone: bool = False) -> TextEmbedding:
        """The embedding of a text, from a cache of recent texts if possible.

        Args:
            is_alone: reject embeddings that were encoded together with other texts, because they round differently.
        """
        found = self._texts.pop(text, None)
        if found is None or (is_alone and not found.was_alone):
            found = self._read([text])[0]
        self._remember(text, found)
        return found

    def _read(self, texts: list[str]) -> list[TextEmbedding]:
        tokens, _, pooled, _ = self._networks.pipeline.encode_prompt(
            texts, device=self._networks.device, do_classifier_free_guidance=False
        )
        # Copies, so that a cached text does not keep the tensors of the whole pass in memory.
        each = zip(tokens.split(1), pooled.split(1), strict=True)
        was_alone = len(texts) == 1
        return [TextEmbedding(own_tokens.clone(), own_pooled.clone(), was_alone) for own_tokens, own_pooled in each]

    def _remember(self, text: str, embedding: TextEmbedding) -> None:
        self._texts[text] = embedding
        if len(self._texts) > self._text_cache_size:
            self._texts.popitem(last=False)

    def _note_omitted_words(self, state: RequestState, name: str, text: str) -> None:
        if omitted := self._omitted_words(text):
            state.notes.append(f"the {name} is too long for the text encoders, which do not read: {omitted}")

    def _omitted_words(self, text: str) -> str:
        """The end of a text beyond the text encoders' limit; usually empty."""
        tokenizer = self._networks.pipeline.tokenizer
        longest = tokenizer.model_max_length
        if len(text) < longest:  # a token is at least one character
            return ""
        tokens = tokenizer(text, truncation=False, verbose=False).input_ids
        return str(tokenizer.decode(tokens[longest - 1 : -1])).strip() if len(tokens) > longest else ""

    def _negative(self, negative_prompt: str, text: Callable[[str], TextEmbedding]) -> TextEmbedding:
        if negative_prompt or not self._networks.pipeline.config.force_zeros_for_empty_prompt:
            return text(negative_prompt)
        shape = self.text("")
        return TextEmbedding(torch.zeros_like(shape.tokens), torch.zeros_like(shape.pooled), was_alone=True)

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

    def _guidance(self, guidance_scale: float, num_rows: int) -> torch.Tensor | None:
        if not self._networks.is_guided_by_embedding:
            return None
        embedding: torch.Tensor = self._networks.pipeline.get_guidance_scale_embedding(
            torch.tensor(guidance_scale - 1).repeat(num_rows),
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
