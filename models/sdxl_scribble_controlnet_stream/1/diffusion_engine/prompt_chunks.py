# SPDX-License-Identifier: Apache-2.0
"""Divides a prompt into chunks that fit a text encoder, each with its own start and end token. Imports no torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from diffusion_engine.errors import RequestError
from diffusion_engine.prompt_syntax import Fragment

# A chunk ends after its last comma if at most this many tokens follow it, as in A1111.
COMMA_DISTANCE = 20
# The largest weight. Larger ones make values that are not finite.
MAX_WEIGHT = 100.0

Token = tuple[int, float]  # its id and its weight


@dataclass(frozen=True, slots=True)
class Chunk:
    """The input of a text encoder: the ids and weights of as many tokens as it takes, usually 77."""

    ids: list[int]
    weights: list[float]

    @property
    def is_weighted(self) -> bool:
        return any(weight != 1 for weight in self.weights)


class Chunker:
    """Makes the chunks of one text encoder. Tokenizers are not thread-safe."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self.size = tokenizer.model_max_length - 2  # without start and end
        self._comma = tokenizer.get_vocab().get(",</w>")

    def chunks(self, sections: Sequence[Sequence[Fragment]]) -> list[Chunk]:
        """The chunks of a parsed prompt, at least one.

        Raises:
            RequestError: a weight is too large.
        """
        found: list[list[Token]] = []
        for section in sections:
            tokens = self._tokens(section)
            while len(tokens) > self.size:
                end = self._end(tokens)
                found.append(tokens[:end])
                tokens = tokens[end:]
            found.append(tokens)
        if len(found) > 1 and not found[-1]:
            found.pop()  # nothing follows the last BREAK
        return [self._chunk(tokens) for tokens in found]

    def _tokens(self, section: Sequence[Fragment]) -> list[Token]:
        tokens: list[Token] = []
        for text, weight in section:
            if not abs(weight) <= MAX_WEIGHT:
                detail = f"The prompt has a part with the weight {weight:g}; at most {MAX_WEIGHT:g} is allowed."
                raise RequestError("out_of_range", detail)
            ids = self._tokenizer(text, add_special_tokens=False, truncation=False, verbose=False).input_ids
            tokens += [(each, weight) for each in ids]
        return tokens

    def _end(self, tokens: Sequence[Token]) -> int:
        """Where the first chunk of too many tokens ends."""
        if tokens[self.size][0] != self._comma:
            for end in range(self.size, self.size - COMMA_DISTANCE, -1):
                if tokens[end - 1][0] == self._comma:
                    return end
        return int(self.size)

    def _chunk(self, tokens: Sequence[Token]) -> Chunk:
        tokenizer, missing = self._tokenizer, self.size - len(tokens)
        ids = [tokenizer.bos_token_id, *(each for each, _ in tokens), tokenizer.eos_token_id]
        weights = [1.0, *(weight for _, weight in tokens), 1.0]
        return Chunk(ids + [tokenizer.pad_token_id] * missing, weights + [1.0] * missing)
