# SPDX-License-Identifier: Apache-2.0
"""The tokenizer: byte-level BPE in CLIP's format, trained on the captions. It accepts any text, even emoji."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from demo.dataset import complete_shards, shard_path
from demo.networks import TOKENS
from demo.nouns import ADJECTIVES, ENDINGS, NOUNS, OPENINGS

if TYPE_CHECKING:
    from pathlib import Path

VOCABULARY = 2200
START, END = "<|startoftext|>", "<|endoftext|>"


def train_tokenizer(scenes: Path, folder: Path) -> CLIPTokenizer:
    """Train the tokenizer unless it exists: the text encoders' weights depend on its token numbers."""
    if (folder / "tokenizer_config.json").exists():
        return CLIPTokenizer.from_pretrained(folder)
    bpe = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    bpe.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    # the byte-level alphabet twice, as in CLIP: inside a word and at its end
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - 2 - len(letters),
        initial_alphabet=letters,
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    bpe.train_from_iterator(texts(scenes), trainer)
    learned = json.loads(bpe.to_str())["model"]
    vocabulary = dict(learned["vocab"])
    for token in [*(f"{letter}</w>" for letter in letters), START, END]:
        vocabulary.setdefault(token, len(vocabulary))
    merges = [tuple(m) for m in learned["merges"]]
    tokenizer = CLIPTokenizer(
        vocab=vocabulary,
        merges=merges,
        bos_token=START,
        eos_token=END,
        pad_token=END,
        unk_token=END,
        model_max_length=TOKENS,
    )
    tokenizer.save_pretrained(folder)
    return tokenizer


def texts(scenes: Path) -> list[str]:
    captions = [
        caption["text"]
        for number in complete_shards(scenes)[:12]
        for wordings in json.loads(shard_path(scenes, number, "captions.json").read_text())
        for caption in wordings
    ]
    return [*captions, *NOUNS, *ADJECTIVES, *ENDINGS, *OPENINGS]
