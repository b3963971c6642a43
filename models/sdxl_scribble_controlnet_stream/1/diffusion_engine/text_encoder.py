# SPDX-License-Identifier: Apache-2.0
"""Encodes texts for the steps: text → embeddings of both text encoders, with a cache of recent texts."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from diffusion_engine import prompt_syntax
from diffusion_engine.capabilities import MAX_PROMPT_CHUNKS
from diffusion_engine.errors import RequestError
from diffusion_engine.networks import Networks
from diffusion_engine.prompt_chunks import Chunk, Chunker
from diffusion_engine.request_state import RequestState

# The most chunks in a pass of a text encoder.
CHUNKS_PER_PASS = 64
# The most texts that `[from:to:when]` and `[a|b]` may make of one prompt.
MAX_TEXTS = 16
# The most chunks of all these texts together, because the others in the batch wait while they are encoded.
MAX_CHUNKS_OF_TEXTS = 64


class TextKey(NamedTuple):
    """A text, and all that its embedding depends on."""

    text: str
    syntax: str = prompt_syntax.PLAIN
    clip_skip: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class TextEmbedding:
    """The outputs of both text encoders for one text. S tokens, 77 for each chunk; D and P are the encoders' widths."""

    tokens: torch.Tensor  # (1, S, D)
    pooled: torch.Tensor  # (1, P), of the first chunk
    was_alone: bool  # it was encoded in a pass without other texts


class TextEncoder:
    """For the engine's thread only: tokenizers are not thread-safe.

    Args:
        max_chunks: the most chunks of a text.
        cache_size: the number of chunks in the cache.
    """

    def __init__(self, networks: Networks, *, max_chunks: int = MAX_PROMPT_CHUNKS, cache_size: int = 256) -> None:
        pipeline = networks.pipeline
        self._networks = networks
        self._encoders = (pipeline.text_encoder, pipeline.text_encoder_2)
        self._chunkers = (Chunker(pipeline.tokenizer), Chunker(pipeline.tokenizer_2))
        self._max_clip_skip = min(encoder.config.num_hidden_layers for encoder in self._encoders) - 1
        self._max_chunks = max_chunks
        self._texts: OrderedDict[TextKey, TextEmbedding] = OrderedDict()
        self._cache_size = cache_size

    @torch.inference_mode()
    def encode(self, state: RequestState) -> list[list[TextEmbedding]]:
        """The text of each step, by row: of the unconditional row, if there is one, then of the conditional one.

        Raises:
            RequestError: a prompt has too many chunks or texts, or too large a weight; or `clip_skip` is too large.
        """
        clip_skip = state.request.clip_skip or 0
        if clip_skip > self._max_clip_skip:
            raise RequestError(
                "out_of_range",
                f"`clip_skip` is {clip_skip}; at most {self._max_clip_skip} layers of this checkpoint's text encoders "
                "can be skipped.",
                field="clip_skip",
            )
        rows = [self._row(state, "prompt", state.request.prompt)]
        if state.is_guided:
            rows.insert(0, self._row(state, "negative_prompt", state.request.negative_prompt))
        return rows

    @torch.inference_mode()
    def read_texts(self, states: Sequence[RequestState]) -> None:
        """Encode the first texts of requests that start together in one pass, which takes little longer than a single
        text.

        `text` encodes the others, and the texts of reproducible requests, each alone.
        """
        shared = [each for each in states if not each.request.reproducible]
        keys = [_keys(each, "prompt", each.request.prompt)[0] for each in shared]
        keys += [_keys(each, "negative_prompt", each.request.negative_prompt)[0] for each in shared if each.is_guided]
        new = [key for key in dict.fromkeys(keys) if key not in self._texts]
        if len(new) > 1:
            for key, embedding in zip(new, self._read(new), strict=True):
                self._remember(key, embedding)

    def text(self, key: TextKey, *, is_alone: bool = False) -> TextEmbedding:
        """The embedding of a text, from a cache of recent texts if possible.

        Args:
            is_alone: reject embeddings that were encoded together with other texts, because they round differently.
        """
        found = self._texts.pop(key, None)
        if found is None or (is_alone and not found.was_alone):
            found = self._read([key])[0]
        self._remember(key, found)
        return found

    def _row(self, state: RequestState, field: str, text: str) -> list[TextEmbedding]:
        """The text of each step for one row."""
        request = state.request
        if not text and field == "negative_prompt" and self._networks.pipeline.config.force_zeros_for_empty_prompt:
            shape = self.text(TextKey(""))
            zeros = TextEmbedding(torch.zeros_like(shape.tokens), torch.zeros_like(shape.pooled), was_alone=True)
            return [zeros] * state.num_steps
        if prompt_syntax.joins_prompts(text, request.prompt_syntax):
            state.notes.append(f"AND in the {field.replace('_', ' ')} is read as a word: a picture has one prompt.")
        try:
            keys = _keys(state, field, text)
            distinct = dict.fromkeys(keys)
            if len(distinct) > MAX_TEXTS:
                detail = f"The prompt changes between {len(distinct)} texts; at most {MAX_TEXTS} are allowed."
                raise RequestError("out_of_range", detail)
            embeddings = self._embeddings(list(distinct), is_alone=request.reproducible)
        except RequestError as error:
            error.field = field
            raise
        return [embeddings[key] for key in keys]

    def _embeddings(self, keys: Sequence[TextKey], *, is_alone: bool) -> dict[TextKey, TextEmbedding]:
        """The embeddings of the texts of one row."""
        found: dict[TextKey, TextEmbedding] = {}
        num_chunks = 0
        for key in keys:
            found[key] = self.text(key, is_alone=is_alone)
            num_chunks += found[key].tokens.shape[1] // (self._chunkers[0].size + 2)
            if num_chunks > max(MAX_CHUNKS_OF_TEXTS, self._max_chunks):
                detail = (
                    f"The prompt changes between {len(keys)} texts, which have more than {MAX_CHUNKS_OF_TEXTS} chunks "
                    f"of {self._chunkers[0].size} tokens together. Shorten it, or let it change less often."
                )
                raise RequestError("out_of_range", detail)
        return found

    def _read(self, keys: Sequence[TextKey]) -> list[TextEmbedding]:
        """Encode texts together."""
        chunks = [self._chunks(key) for key in keys]
        skips = [key.clip_skip for key, (own, _) in zip(keys, chunks, strict=True) for _ in own]
        first, second = (
            self._outputs(encoder, [chunk for each in chunks for chunk in each[index]], skips)
            for index, encoder in enumerate(self._encoders)
        )
        embeddings, start = [], 0
        for own, _ in chunks:
            rows = range(start, start + len(own))
            tokens = torch.cat([torch.cat([first[row][0], second[row][0]], dim=-1) for row in rows], dim=1)
            # A copy, so that a cached text does not keep the tensors of the whole pass in memory.
            embeddings.append(TextEmbedding(tokens, second[start][1].clone(), was_alone=len(keys) == 1))
            start += len(own)
        return embeddings

    def _chunks(self, key: TextKey) -> list[list[Chunk]]:
        """The chunks of a text for each text encoder, the same number for both."""
        sections = prompt_syntax.sections(key.text, key.syntax)
        chunks = [chunker.chunks(sections) for chunker in self._chunkers]
        most = max(map(len, chunks))
        if most > self._max_chunks:
            size = self._chunkers[0].size
            raise RequestError(
                "out_of_range",
                f"The prompt has {most} chunks of {size} tokens; at most {self._max_chunks} are allowed. Shorten it.",
            )
        return [
            own + chunker.chunks([[]]) * (most - len(own)) for own, chunker in zip(chunks, self._chunkers, strict=True)
        ]

    def _outputs(
        self, encoder: Any, chunks: Sequence[Chunk], skips: Sequence[int]
    ) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """For each chunk the hidden states, (1, 77, width), and the encoder's first output, (1, ...)."""
        found = []
        for start in range(0, len(chunks), CHUNKS_PER_PASS):
            part = chunks[start : start + CHUNKS_PER_PASS]
            ids = torch.tensor([chunk.ids for chunk in part]).to(self._networks.device, non_blocking=True)
            outputs = encoder(ids, output_hidden_states=True)
            for row, chunk in enumerate(part):
                # SDXL was trained with the layer before the last.
                hidden = outputs.hidden_states[-2 - skips[start + row]][row : row + 1]
                found.append((weighted(hidden, chunk).to(self._networks.dtype), outputs[0][row : row + 1]))
        return found

    def _remember(self, key: TextKey, embedding: TextEmbedding) -> None:
        self._texts[key] = embedding
        while sum(each.tokens.shape[1] for each in self._texts.values()) > self._cache_size * 77:
            self._texts.popitem(last=False)


def weighted(hidden: torch.Tensor, chunk: Chunk) -> torch.Tensor:
    """A chunk's hidden states multiplied by the weights of its tokens, with their mean restored, as in A1111."""
    if not chunk.is_weighted:
        return hidden
    exact = hidden.float()
    scaled = exact * torch.tensor(chunk.weights).to(hidden.device, non_blocking=True).view(1, -1, 1)
    return (scaled * (exact.mean() / scaled.mean())).to(hidden.dtype)


def _keys(state: RequestState, field: str, text: str) -> list[TextKey]:
    """The text of each step. As in diffusers, `clip_skip` does not apply to the negative prompt."""
    request = state.request
    clip_skip = request.clip_skip or 0 if field == "prompt" else 0
    texts = prompt_syntax.texts_of_steps(text, request.prompt_syntax, state.num_steps)
    keys = {each: TextKey(each, request.prompt_syntax, clip_skip) for each in texts}
    return [keys[each] for each in texts]
