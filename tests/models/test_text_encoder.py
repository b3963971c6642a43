# SPDX-License-Identifier: Apache-2.0
"""The embeddings of texts equal those of diffusers, and of compel for texts that diffusers would cut."""

from typing import Any

import pytest
import torch
from diffusion_engine.networks import Networks
from diffusion_engine.text_encoder import TextEmbedding, TextEncoder, TextKey

LONG = "a red house beside a tall green tree with a yellow sun over the blue sea and " * 8
COMMAS = "a red house beside a tall green tree with a yellow sun, " * 12


@pytest.fixture(scope="module")
def encoder(pipeline: Any) -> TextEncoder:
    return TextEncoder(Networks.of_pipeline(pipeline))


def read(encoder: TextEncoder, text: str, syntax: str = "plain", **options: Any) -> TextEmbedding:
    with torch.inference_mode():
        return encoder.text(TextKey(text, syntax, **options))


def by_diffusers(pipeline: Any, texts: list[str], **options: Any) -> tuple[torch.Tensor, torch.Tensor]:
    with torch.inference_mode():
        tokens, _, pooled, _ = pipeline.encode_prompt(texts, do_classifier_free_guidance=False, **options)
    return tokens, pooled


def num_tokens(pipeline: Any, text: str) -> int:
    return len(pipeline.tokenizer(text, verbose=False).input_ids)


@pytest.mark.parametrize("text", ["", "a red circle on a blue background", "red fish " * 37 + "blue"])
def test_short_text_is_encoded_bit_for_bit_as_by_diffusers(pipeline: Any, encoder: TextEncoder, text: str) -> None:
    assert num_tokens(pipeline, text) <= 77
    tokens, pooled = by_diffusers(pipeline, [text])
    for syntax in ("plain", "a1111"):
        found = read(encoder, text, syntax)
        assert torch.equal(found.tokens, tokens)
        assert torch.equal(found.pooled, pooled)


def test_texts_that_are_encoded_together_are_encoded_as_by_diffusers(pipeline: Any, encoder: TextEncoder) -> None:
    texts = ["a red circle", "a yellow star on a green background", ""]
    with torch.inference_mode():
        found = encoder._read([TextKey(text) for text in texts])
    tokens, pooled = by_diffusers(pipeline, texts)
    assert torch.equal(torch.cat([each.tokens for each in found]), tokens)
    assert torch.equal(torch.cat([each.pooled for each in found]), pooled)


@pytest.mark.parametrize("clip_skip", [1, 2])
def test_clip_skip_is_that_of_diffusers(pipeline: Any, encoder: TextEncoder, clip_skip: int) -> None:
    text = "a red circle on a blue background"
    tokens, pooled = by_diffusers(pipeline, [text], clip_skip=clip_skip)
    found = read(encoder, text, clip_skip=clip_skip)
    assert torch.equal(found.tokens, tokens)
    assert torch.equal(found.pooled, pooled)
    assert not torch.equal(found.tokens, read(encoder, text).tokens)


@pytest.mark.parametrize(
    ("text", "split"),
    [(LONG, "BRUTAL"), (COMMAS, "PHRASES"), (LONG + "and " * 75, "BRUTAL")],
    ids=["no commas", "commas", "exact chunks"],
)
def test_long_text_is_encoded_as_by_compel(pipeline: Any, encoder: TextEncoder, text: str, split: str) -> None:
    """compel with `truncate_long_prompts=False`, which splits anywhere (`BRUTAL`) or after a comma (`PHRASES`)."""
    compel = pytest.importorskip("compel", reason="the extra dev has it only for Python 3.11")
    mode = compel.SplitLongTextMode[split]
    with torch.inference_mode():
        first, (second, pooled) = (
            compel.Compel(
                tokenizer=tokenizer,
                text_encoder=text_encoder,
                returned_embeddings_type=compel.ReturnedEmbeddingsType.PENULTIMATE_HIDDEN_STATES_NON_NORMALIZED,
                truncate_long_prompts=False,
                requires_pooled=has_pooled,
                split_long_text_mode=mode,
            ).build_conditioning_tensor(text)
            for tokenizer, text_encoder, has_pooled in (
                (pipeline.tokenizer, pipeline.text_encoder, False),
                (pipeline.tokenizer_2, pipeline.text_encoder_2, True),
            )
        )
    for syntax in ("plain", "a1111"):
        found = read(encoder, text, syntax)
        assert found.tokens.shape[1] >= 2 * 77
        torch.testing.assert_close(found.tokens, torch.cat([first, second], dim=-1), rtol=1e-5, atol=1e-5)
        if split == "BRUTAL":  # else compel's pooled embedding is of more words than its first chunk
            torch.testing.assert_close(found.pooled, pooled, rtol=1e-5, atol=1e-5)


def test_break_starts_a_chunk(encoder: TextEncoder) -> None:
    found = read(encoder, "a red house BREAK a green tree", "a1111")
    alone = [read(encoder, text) for text in ("a red house", "a green tree")]
    torch.testing.assert_close(found.tokens, torch.cat([each.tokens for each in alone], dim=1))
    torch.testing.assert_close(found.pooled, alone[0].pooled)


def test_weights_multiply_the_tokens_and_keep_the_mean_of_each_encoder(pipeline: Any, encoder: TextEncoder) -> None:
    """A1111's emphasis `Original`, its default."""
    plain, found = read(encoder, "red circle"), read(encoder, "(red:1.5) circle", "a1111")
    assert num_tokens(pipeline, "red circle") == 4
    width = pipeline.text_encoder.config.hidden_size
    for part in (slice(0, width), slice(width, None)):
        expected = plain.tokens[..., part].clone()
        expected[:, 1] *= 1.5  # after the start token
        expected *= plain.tokens[..., part].mean() / expected.mean()
        torch.testing.assert_close(found.tokens[..., part], expected)
    assert torch.equal(found.pooled, plain.pooled)


def test_weights_of_one_chunk_leave_the_others_alone(encoder: TextEncoder) -> None:
    plain, found = read(encoder, "a house BREAK a tree", "a1111"), read(encoder, "a house BREAK a [tree]", "a1111")
    torch.testing.assert_close(found.tokens[:, :77], plain.tokens[:, :77])
    assert not torch.allclose(found.tokens[:, 77:], plain.tokens[:, 77:], rtol=1e-3, atol=1e-3)


def test_cache_is_bounded_by_chunks(pipeline: Any) -> None:
    encoder = TextEncoder(Networks.of_pipeline(pipeline), cache_size=4)
    for text in ("one", "two", "three", "a BREAK b BREAK c", "four"):
        read(encoder, text, "a1111")
    assert [key.text for key in encoder._texts] == ["a BREAK b BREAK c", "four"]
