# SPDX-License-Identifier: Apache-2.0
"""Long and weighted prompts: pictures equal those of diffusers with `prompt_embeds`, alone and in mixed company."""

from typing import Any

import numpy as np
import pytest
import torch
from diffusion_engine.networks import Networks
from diffusion_engine.prompt_syntax import texts_of_steps
from diffusion_engine.text_encoder import TextEncoder, TextKey
from diffusion_engine.text_rows import joined
from drawings import row
from listening import Driver, Submitted
from stock import StockPipeline

MOST = 1  # of 255, in any colour value
BASE = {"width": 96, "height": 96, "num_inference_steps": 2}
LONG = b"a purple heart on a white background, "
WEIGHTED = {"prompt_syntax": b"a1111", "guidance_scale": 5.0}
CASES: dict[str, dict[str, Any]] = {
    "three chunks, unguided": {"prompt": LONG * 20, "guidance_scale": 1.0, "scheduler": b"euler_ancestral"},
    "two and three chunks": {"prompt": LONG * 12, "negative_prompt": b"blue, " * 90, "seed": 3},
    "five and four chunks": {**WEIGHTED, "prompt": b" BREAK ".join([LONG] * 5), "negative_prompt": b"red BREAK " * 4},
    "weights": {
        **WEIGHTED,
        "prompt": b"a (red:1.4) [circle] on a ((blue)) background",
        "negative_prompt": b"(blue background:1.3)",
        "seed": 4,
    },
    "changing": {**WEIGHTED, "prompt": b"a [red:yellow BREAK star:0.5] circle", "seed": 6},
    "changing, alternating": {**WEIGHTED, "negative_prompt": b"[blue|green, BREAK dark]", "seed": 7},
    "short": {"seed": 8},
    "short, clip_skip": {"seed": 9, "clip_skip": 2, "guidance_scale": 1.0},
}


class EmbeddingPipeline:
    """The stock pipeline with embeddings instead of texts, each given to the step that needs it."""

    def __init__(self, pipeline: Any, stock: StockPipeline) -> None:
        self._encoder = TextEncoder(Networks.of_pipeline(pipeline))
        self._zeros = pipeline.config.force_zeros_for_empty_prompt
        self._stock = stock

    def pixels(self, **values: Any) -> Any:
        syntax, clip_skip = values.get("prompt_syntax", b"plain").decode(), values.get("clip_skip", 0)
        texts = [row(**values).get(name, b"").decode() for name in ("negative_prompt", "prompt")]
        steps = [texts_of_steps(text, syntax, values["num_inference_steps"]) for text in texts]
        embeds = []
        for negative, prompt in zip(*steps, strict=True):
            with torch.inference_mode():
                pair = [
                    self._encoder.text(TextKey(negative, syntax)),
                    self._encoder.text(TextKey(prompt, syntax, clip_skip)),
                ]
            tokens, pooled = joined([each.tokens for each in pair]), torch.cat([each.pooled for each in pair])
            if not negative and self._zeros:
                tokens[0], pooled[0] = 0, 0
            embeds.append((tokens, pooled))
        rows = slice(1, None) if values.get("guidance_scale") == 1.0 else slice(None)

        def next_texts(pipeline: Any, index: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            tokens, pooled = embeds[min(index + 1, len(embeds) - 1)]
            return {"prompt_embeds": tokens[rows], "add_text_embeds": pooled[rows]}

        (negative, prompt), (negative_pooled, pooled) = (each.split(1) for each in embeds[0])
        options = {
            "prompt": None,
            "negative_prompt": None,
            "prompt_embeds": prompt,
            "negative_prompt_embeds": negative,
            "pooled_prompt_embeds": pooled,
            "negative_pooled_prompt_embeds": negative_pooled,
            "callback_on_step_end": next_texts,
            "callback_on_step_end_tensor_inputs": ["prompt_embeds", "add_text_embeds"],
        }
        return self._stock.pixels(options=options, **values)


@pytest.fixture(scope="module")
def expected(pipeline: Any, stock: StockPipeline) -> dict[str, Any]:
    with_embeddings = EmbeddingPipeline(pipeline, stock)
    return {name: with_embeddings.pixels(**{**BASE, **case}) for name, case in CASES.items()}


def differences(submitted: dict[str, Submitted], expected: dict[str, Any]) -> dict[str, int]:
    """The largest differences that are too large."""
    found = {name: int(np.abs(one.pixels() - expected[name]).max()) for name, one in submitted.items()}
    return {name: difference for name, difference in found.items() if difference > MOST}


def test_pictures_of_single_requests(driver: Driver, expected: dict[str, Any]) -> None:
    submitted = {}
    for name, case in CASES.items():
        submitted[name] = driver.join(**{**BASE, **case})
        driver.finish()
    assert differences(submitted, expected) == {}


def test_pictures_in_mixed_company(make_driver: Any, expected: dict[str, Any]) -> None:
    driver = make_driver(max_rows=9)
    submitted = {}
    for name, case in CASES.items():
        submitted[name] = driver.join(preview_every=2, **{**BASE, **case})
        if len(submitted) % 3 == 0:
            driver.step()
    driver.finish()
    assert max(map(len, driver.passes)) > 2
    assert differences(submitted, expected) == {}


def test_cases_give_different_pictures(expected: dict[str, Any]) -> None:
    assert len({picture.tobytes() for picture in expected.values()}) == len(CASES)
