# SPDX-License-Identifier: Apache-2.0
"""Encodes texts for the steps: text → embeddings of both text encoders, with a cache of recent texts."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from diffusion_engine.networks import Networks
from diffusion_engine.request_state import RequestState


@dataclass(frozen=True, slots=True)
class TextEmbedding:
    """The outputs of both text encoders for one text. S tokens; D and P are the encoders' widths."""

    tokens: torch.Tensor  # (1, S, D)
    pooled: torch.Tensor  # (1, P)
    was_alone: bool  # it was encoded in a pass without other texts


class TextEncoder:
    """For the engine's thread only: tokenizers are not thread-safe."""

    def __init__(self, networks: Networks, *, cache_size: int = 256) -> None:
        self._networks = networks
        self._texts: OrderedDict[str, TextEmbedding] = OrderedDict()
        self._cache_size = cache_size

    @torch.inference_mode()
    def encode(self, state: RequestState) -> list[TextEmbedding]:
        """The texts of a request's rows: of the unconditional row, if there is one, then of the conditional one."""
        request = state.request
        texts = [self.text(request.prompt, is_alone=request.reproducible)]
        self._note_omitted_words(state, "prompt", request.prompt)
        if state.is_guided:
            texts.insert(0, self._negative(request.negative_prompt, is_alone=request.reproducible))
            self._note_omitted_words(state, "negative prompt", request.negative_prompt)
        return texts

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
        if len(self._texts) > self._cache_size:
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

    def _negative(self, negative_prompt: str, *, is_alone: bool) -> TextEmbedding:
        if negative_prompt or not self._networks.pipeline.config.force_zeros_for_empty_prompt:
            return self.text(negative_prompt, is_alone=is_alone)
        shape = self.text("")
        return TextEmbedding(torch.zeros_like(shape.tokens), torch.zeros_like(shape.pooled), was_alone=True)
