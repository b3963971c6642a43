# SPDX-License-Identifier: Apache-2.0
"""Captions' phrases and the regions that they describe, and the loss that binds them."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from demo.palette import WORDS
from demo.phrases import BACKGROUND, UNLABELLED, Caption, Phrase, label_of, marked, parse, regions
from demo.scenes import draw_scene


def test_phrases_are_found_in_the_text_without_marks() -> None:
    face = marked(f"a {marked('happy', label_of(0, 1))} face", label_of(0))
    caption = parse(f"{face} {marked('on a blue wall', BACKGROUND)}")
    assert caption == Caption(
        "a happy face on a blue wall",
        (Phrase(label_of(0), 0, 12), Phrase(label_of(0, 1), 2, 7), Phrase(BACKGROUND, 13, 27)),
    )


def test_labels_of_subjects_and_parts_differ() -> None:
    labels = [label_of(subject, part) for subject in range(7) for part in range(8)]
    assert len({*labels, BACKGROUND, UNLABELLED}) == len(labels) + 2
    assert max(labels) < UNLABELLED


def test_every_phrase_describes_the_pixels_with_its_label() -> None:
    """The noun and the colour of each object are in the phrase with the label of the object's pixels."""
    found = num_shared = 0
    for seed in range(60):
        rng = np.random.default_rng([11, seed])
        scene = draw_scene(rng, (96, 96))
        caption, labels = scene.caption(rng), regions(scene)
        texts = {phrase.label: caption.text[phrase.start : phrase.end].lower() for phrase in caption.phrases}
        assert (labels[scene.owner == -1] == BACKGROUND).all()
        if len({placed.subject for placed in scene.objects}) < len(scene.objects):
            num_shared += 1
            assert set(np.unique(labels).tolist()) - {BACKGROUND} <= set(texts)  # they share a phrase
            continue
        for subject, placed in enumerate(reversed(scene.objects)):
            owned = set(np.unique(labels[scene.owner == len(scene.objects) - 1 - subject]).tolist())
            said = placed.subject
            assert owned <= {label_of(subject, part) for part in range(len(said.extras) + 1)}
            assert said.noun in texts[label_of(subject)]
            if said.says_colour:
                assert any(word in texts[label_of(subject)] for word in WORDS[said.colour.name])
            found += 1
        assert all(text.strip(" ,.") for text in texts.values())
    assert found > 60
    assert num_shared > 0


def test_tokens_have_the_label_of_the_innermost_phrase() -> None:
    pytest.importorskip("torch")
    from transformers import CLIPTokenizer

    from demo.batches import tokenized
    from demo.dataset import Shard
    from demo.evaluate import CHECKPOINT

    caption = Caption("a happy face on a house", (Phrase(1, 0, 12), Phrase(2, 2, 7), Phrase(0, 13, 23)))
    nothing = np.zeros(0)
    shard = Shard(nothing, nothing, nothing, nothing, [[caption, caption]])
    tokenizer = CLIPTokenizer.from_pretrained(CHECKPOINT / "tokenizer")
    ids, labels = tokenized(shard, tokenizer)
    assert ids.shape == labels.shape == (1, 2, 77)
    words = tokenizer.convert_ids_to_tokens(ids[0, 0])
    assert [(word, label) for word, label in zip(words, labels[0, 0].tolist(), strict=True) if label != UNLABELLED] == [
        ("a</w>", 1),
        ("happy</w>", 2),
        ("face</w>", 1),
        ("on</w>", 0),
        ("a</w>", 0),
        ("house</w>", 0),
    ]


def test_grounding_loss_is_small_if_pixels_attend_to_their_own_phrase() -> None:
    torch = pytest.importorskip("torch")
    from demo.grounding import grounding_loss

    labels = torch.tensor([[UNLABELLED, 1, 2, 0]], dtype=torch.uint8)
    regions_of = torch.tensor([[[1, 1, 2, 2], [1, 1, 2, 2]]], dtype=torch.uint8)  # a grid of 2 x 4, attention's 1 x 2
    to_start = torch.tensor([[[0.8, 0.18, 0.01, 0.01], [0.8, 0.01, 0.18, 0.01]]])
    to_others = to_start.flip(1)
    assert float(grounding_loss(to_start, labels, regions_of)) == pytest.approx(np.log(0.2 / 0.18), abs=0.01)
    assert float(grounding_loss(to_others, labels, regions_of)) == pytest.approx(np.log(0.2 / 0.01), abs=0.02)
    only_second = torch.tensor([[UNLABELLED, UNLABELLED, 2, 0]], dtype=torch.uint8)  # the first pixel does not count
    assert float(grounding_loss(to_start, only_second, regions_of)) == pytest.approx(np.log(0.19 / 0.18), abs=0.01)
    nothing = torch.full_like(labels, UNLABELLED)
    assert float(grounding_loss(to_start, nothing, regions_of)) == 0


def test_grounding_watches_the_layers_that_know_the_drawing() -> None:
    torch = pytest.importorskip("torch")
    from demo import bundle as bundles
    from demo.batches import Batch
    from demo.denoising import predict
    from demo.evaluate import CHECKPOINT
    from demo.grounding import Grounding

    bundle = bundles.load(CHECKPOINT)
    grounding = Grounding(bundle)
    tokens = bundle.tokenizer(["a red cat"], padding="max_length", max_length=77, return_tensors="pt").input_ids
    ones = torch.ones(1, 1, 1)
    labels = torch.full((1, 77), UNLABELLED, dtype=torch.uint8)
    labels[0, 2:4] = 1
    batch = Batch(
        torch.zeros(1, 4, 32, 32),
        torch.zeros(1, 3, 128, 128),
        tokens,
        ones,
        ones[None],
        torch.zeros(1, 6),
        torch.ones(1, 1, 32, 32),
        labels,
        torch.ones(1, 32, 32, dtype=torch.uint8),
    )
    grounding.watch(batch)
    predict(bundle, batch, torch.randn(1, 4, 32, 32), torch.tensor([900]))
    assert len(grounding._losses) == 7  # one layer in the middle, two at each of three resolutions after it
    loss = grounding.loss()
    assert float(loss.detach()) == pytest.approx(0, abs=1e-4)  # there is no other phrase
    loss.backward()
    copied = copy.deepcopy(bundle)  # as for a sheet of samples
    predict(copied, batch, torch.randn(1, 4, 32, 32), torch.tensor([900]))
    assert grounding._losses == []
