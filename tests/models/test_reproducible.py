# SPDX-License-Identifier: Apache-2.0
"""`reproducible`: no other request changes a bit of the picture, even if rounding errors are amplified."""

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from diffusion_engine.request_state import BatchKey, Status
from diffusion_engine.row_limits import RowLimits
from listening import Driver, Submitted

MakeDriver = Callable[..., Driver]

SMALL = {"width": 96, "height": 96}
# Cases that amplify rounding errors: the noise that lcm adds in every step, high guidance over many steps.
CASES: dict[str, dict[str, Any]] = {
    "lcm, guidance 15, no scribble": {
        "scheduler": b"lcm",
        "num_inference_steps": 12,
        "guidance_scale": 15.0,
        "conditioning_scale": 0.0,
    },
    "lcm, unguided": {"scheduler": b"lcm", "num_inference_steps": 8, "guidance_scale": 1.0},
    "guidance 30, ancestral": {"guidance_scale": 30.0, "num_inference_steps": 10, "scheduler": b"euler_ancestral"},
}


def values_of(name: str) -> dict[str, Any]:
    return {**SMALL, "prompt": b"a fish", "negative_prompt": b"blue", "reproducible": True, **CASES[name]}


def other_values(choose: random.Random) -> dict[str, Any]:
    return {
        **SMALL,
        "prompt": choose.choice((b"a fish", b"a boat", b"a tree", b"blue")),
        "negative_prompt": choose.choice((b"", b"blue", b"red")),
        "seed": choose.randrange(1000),
        "num_inference_steps": choose.randrange(2, 7),
        "guidance_scale": choose.choice((1.0, 4.0, 15.0)),
        "scheduler": choose.choice((b"euler", b"lcm")),
        "reproducible": choose.random() < 0.2,
    }


def in_changing_batches(driver: Driver, **values: Any) -> Submitted:
    """Make a picture while other requests join and leave, so that the batch changes with every step."""
    choose = random.Random(1)  # noqa: S311
    for _ in range(3):
        driver.join(**other_values(choose))
    driver.step()  # the texts that they have in common are now encoded, together
    joined = driver.join(**values)
    while joined.state.status in (Status.WAITING, Status.RUNNING):
        if choose.random() < 0.3:
            driver.join(**other_values(choose))
        if choose.random() < 0.1:
            driver.join(**other_values(choose)).state.cancel()
        driver.step()
    return joined


@pytest.mark.parametrize("name", CASES)
def test_picture_is_the_same_to_the_bit_in_every_batch(make_driver: MakeDriver, name: str) -> None:
    alone_driver = make_driver(max_rows=16)
    alone = alone_driver.join(**values_of(name))
    alone_driver.finish()
    driver = make_driver(max_rows=16)
    in_batches = in_changing_batches(driver, **values_of(name))
    assert any(len(states) > 1 for states in driver.passes)
    own = [states for states in driver.passes if in_batches.state in states]
    assert own == [[in_batches.state]] * in_batches.state.num_steps
    assert np.array_equal(in_batches.pixels(), alone.pixels())


def test_reproducible_picture_equals_that_of_a_single_ordinary_request(driver: Driver) -> None:
    plain = driver.join(**values_of("lcm, unguided") | {"reproducible": False})
    driver.finish()
    reproducible = driver.join(**values_of("lcm, unguided"))
    driver.finish()
    assert np.array_equal(plain.pixels(), reproducible.pixels())


def test_texts_of_reproducible_requests_are_encoded_alone_even_if_cached(
    driver: Driver, encoded_texts: list[list[str]]
) -> None:
    texts = {"prompt": b"a fish", "negative_prompt": b"blue", "guidance_scale": 4.0, "num_inference_steps": 1}
    driver.join(**SMALL, **texts)
    driver.finish()
    assert encoded_texts == [["a fish", "blue"]]
    driver.join(**SMALL, **texts, reproducible=True)
    driver.join(**SMALL, **texts, reproducible=True, seed=2)
    driver.finish()
    assert encoded_texts[1:] == [["a fish"], ["blue"]]
    driver.join(**SMALL, **texts)  # ordinary requests use texts that were encoded alone
    driver.finish()
    assert len(encoded_texts) == 3


def test_reproducible_request_takes_turns_with_shared_passes(driver: Driver) -> None:
    lone = [driver.join(**SMALL, reproducible=True, seed=seed, num_inference_steps=2).state for seed in (1, 2)]
    shared = {driver.join(**SMALL, seed=seed, num_inference_steps=3).state for seed in (3, 4)}
    driver.finish()
    assert [set(states) for states in driver.passes] == [
        {lone[0]}, shared, {lone[0]}, shared, {lone[1]}, shared, {lone[1]},
    ]  # fmt: skip


def test_info_and_file_record_reproducible(driver: Driver) -> None:
    reproducible, other = driver.join(**SMALL, reproducible=True), driver.join(**SMALL)
    driver.finish()
    assert reproducible.picture().info["reproducible"] is True
    assert other.picture().info["reproducible"] is False


def test_separate_pass_does_not_lower_the_row_limit_of_others(driver: Driver) -> None:
    limits = RowLimits({BatchKey(96, 96): 6})
    assert [limits.max_rows(BatchKey(96, 96, is_alone)) for is_alone in (True, False)] == [1, 6]
    driver.join(**SMALL)
    driver.finish()
    before = driver.engine.metrics.value("sdxl_engine_max_rows", size="96x96")
    driver.join(**SMALL, reproducible=True)
    driver.finish()
    assert driver.engine.metrics.value("sdxl_engine_max_rows", size="96x96") == before > 1
    assert driver.engine.metrics.value("sdxl_engine_steps_total", size="96x96") == 8
