# SPDX-License-Identifier: Apache-2.0
"""`cache`: which steps need no pass, that they free their place for other requests, and the pictures."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from diffusion_engine.cached_steps import cached_steps
from diffusion_engine.capabilities import SCHEDULERS, Capabilities
from diffusion_engine.errors import RequestError
from diffusion_engine.noise_scheduler import NoiseSchedule, make_noise_scheduler
from diffusion_engine.request_parser import parse_request
from diffusion_engine.request_state import NullListener, RequestState
from diffusion_engine.scheduler_kinds import SCHEDULER_KINDS
from drawings import row
from listening import Driver, Submitted

MakeDriver = Callable[..., Driver]

SDXL = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "timestep_spacing": "leading"}
SMALL = {"width": 96, "height": 96, "num_inference_steps": 12, "guidance_scale": 1.0}
CACHEABLE = [name for name in SCHEDULERS if not SCHEDULER_KINDS[name].uncacheable]


def state_of(capabilities: Capabilities, **values: Any) -> RequestState:
    state = RequestState(request=parse_request(row(**values), capabilities), listener=NullListener(), arrived=0.0)
    state.control_image = "a scribble"
    return state


def number_of_passes(driver: Driver, submitted: Submitted) -> int:
    return sum(submitted.state in states for states in driver.passes)


def difference(one: Submitted, other: Submitted) -> float:
    """The mean absolute difference of all colour values, of 1."""
    return float(np.abs(one.pixels() - other.pixels()).mean()) / 255


def test_no_step_is_cached_without_the_field(capabilities: Capabilities) -> None:
    assert cached_steps(state_of(capabilities, num_inference_steps=50)) == frozenset()


@pytest.mark.parametrize("num_steps", [1, 2, 3, 4, 12, 50])
def test_more_cache_means_fewer_passes_but_never_the_first_or_last(capabilities: Capabilities, num_steps: int) -> None:
    numbers = []
    for tenths in range(11):
        cached = cached_steps(state_of(capabilities, num_inference_steps=num_steps, cache=tenths / 10))
        assert not cached & {0, 1, num_steps - 1}
        numbers.append(len(cached))
    assert numbers == sorted(numbers)
    assert numbers[-1] >= (num_steps - 3) // 2


def test_steps_at_the_borders_of_the_control_window_are_computed(capabilities: Capabilities) -> None:
    window = {"control_guidance_start": 0.25, "control_guidance_end": 0.75}
    cached = cached_steps(state_of(capabilities, num_inference_steps=40, cache=1.0, **window))
    # Two predictions on the same side of the border are needed to forecast the next one.
    assert not cached & {10, 11, 30, 31}
    assert {12, 13} & cached
    assert {28, 29} & cached
    assert {32, 33} & cached


def test_steps_after_a_change_of_the_prompt_are_computed(capabilities: Capabilities) -> None:
    state = state_of(capabilities, num_inference_steps=40, cache=1.0)
    assert cached_steps(state) & {20, 21}
    assert not cached_steps(state, prompt_changes=[20]) & {20, 21}


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("name", CACHEABLE)
def test_forecasts_are_of_the_clean_latents_of_the_scheduler_itself(name: str, prediction_type: str) -> None:
    schedule = NoiseSchedule(
        make_noise_scheduler(name, {**SDXL, "prediction_type": prediction_type}), num_steps=20, strength=0.5
    )
    generator = torch.Generator().manual_seed(1)
    latents = torch.randn(1, 4, 8, 8, generator=generator) * schedule.init_noise_sigma
    for step in range(schedule.num_steps - 1):
        prediction = torch.randn(1, 4, 8, 8, generator=generator)
        schedule.scale(latents, step)  # as before a pass
        clean = schedule.clean(prediction, latents, step)
        again = schedule.noise_pred(clean, latents, step)
        stepped = schedule.step(prediction, latents, step, generator)
        torch.testing.assert_close(clean, stepped.predicted_clean, rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(again, prediction, rtol=1e-3, atol=1e-3)
        latents = stepped.latents


@pytest.mark.parametrize("name", sorted(set(SCHEDULERS) - set(CACHEABLE)))
def test_scheduler_that_cannot_bear_it_is_refused_with_the_reason(capabilities: Capabilities, name: str) -> None:
    with pytest.raises(RequestError) as caught:
        parse_request(row(scheduler=name.encode(), cache=0.5), capabilities)
    assert (caught.value.code, caught.value.field) == ("unsupported_parameter", "cache")
    assert f"`scheduler` is {name!r}, which {SCHEDULER_KINDS[name].uncacheable}." in caught.value.detail
    assert parse_request(row(scheduler=name.encode(), cache=0.0), capabilities).cache == 0


@pytest.mark.parametrize("cache", [-0.1, 1.1, float("nan")])
def test_value_outside_of_0_to_1_is_refused(capabilities: Capabilities, cache: float) -> None:
    with pytest.raises(RequestError, match="`cache`"):
        parse_request(row(cache=cache), capabilities)


@pytest.mark.parametrize("name", CACHEABLE)
def test_cached_picture_is_close_to_the_exact_one_with_fewer_passes(driver: Driver, name: str) -> None:
    exact = driver.join(**SMALL, scheduler=name.encode())
    cached = driver.join(**SMALL, scheduler=name.encode(), cache=0.8)
    driver.finish()
    num_cached = len(cached_steps(cached.state))
    assert num_cached > 3
    assert number_of_passes(driver, cached) == 12 - num_cached
    assert 0 < difference(cached, exact) < 0.03


@pytest.mark.parametrize("name", CACHEABLE)
def test_cached_pictures_are_far_closer_to_the_exact_ones_than_those_of_other_seeds(driver: Driver, name: str) -> None:
    values = {**SMALL, "scheduler": name.encode(), "prompt": b"a house"}  # which leaves the colours to the seed
    seeds = (1, 2, 3, 4)
    exact = [driver.join(**values, seed=seed) for seed in seeds]
    cached = [driver.join(**values, seed=seed, cache=0.8) for seed in seeds]
    driver.finish()
    same = np.mean([difference(one, other) for one, other in zip(cached, exact, strict=True)])
    others = np.mean([difference(one, other) for one, other in pairwise(exact)])
    adds_noise = "ancestral" in name or "sde" in name  # in each step: small differences grow
    assert same < others / (2 if adds_noise else 10)


def test_cached_picture_is_the_same_in_company(make_driver: MakeDriver) -> None:
    values = {**SMALL, "cache": 0.8, "scheduler": b"euler_ancestral", "control_guidance_end": 0.8}
    alone_driver, driver = make_driver(), make_driver()
    alone = alone_driver.join(**values)
    alone_driver.finish()
    exact = alone_driver.join(**SMALL, seed=5)
    alone_driver.finish()

    beside = driver.join(**SMALL, seed=5)
    driver.step()
    cached = driver.join(**values)
    driver.step()
    for cache in (0.3, 1.0):
        driver.join(**SMALL, seed=7, cache=cache)
    driver.finish()
    assert np.abs(cached.pixels() - alone.pixels()).max() <= 1
    assert np.abs(beside.pixels() - exact.pixels()).max() <= 1


def test_reproducible_cached_picture_is_the_same_to_the_bit(driver: Driver) -> None:
    values = {**SMALL, "cache": 0.8, "reproducible": True}
    alone = driver.join(**values)
    driver.finish()
    driver.join(**SMALL)
    in_company = driver.join(**values)
    driver.finish()
    assert np.array_equal(alone.pixels(), in_company.pixels())


def test_waiting_request_gets_the_place_sooner(make_driver: MakeDriver) -> None:
    """Only one request fits into a pass. The second one starts as soon as the first one has made its passes."""
    driver = make_driver(max_rows=1)
    first = driver.join(**SMALL, cache=1.0)
    second = driver.join(**{**SMALL, "seed": 2})
    driver.finish()
    num_passes = number_of_passes(driver, first)
    assert num_passes < 8
    assert [states[0] for states in driver.passes].index(second.state) == num_passes


def test_events_count_all_steps_and_no_preview_is_missed(driver: Driver) -> None:
    cached = driver.join(**SMALL, cache=0.8, preview_every=2)
    driver.finish()
    steps = cached.recorder.steps
    assert steps == sorted(set(steps))
    assert {num_steps for _, num_steps, _ in cached.recorder.progress_events} == {12}
    assert steps[-1] == 11
    expected = [now for before, now in zip([0, *steps], steps, strict=False) if now // 2 > before // 2]
    assert list(cached.recorder.previews) == expected


def test_receipt_and_metric_have_the_number_of_cached_steps(driver: Driver) -> None:
    cached, exact = driver.join(**SMALL, cache=0.5), driver.join(**SMALL)
    driver.finish()
    num_cached = len(cached_steps(cached.state))
    info = cached.picture().info
    assert (info["cache"], info["cached_steps"]) == (0.5, num_cached)
    assert not {"cache", "cached_steps"} & exact.picture().info.keys()
    assert driver.engine.metrics.value("sdxl_engine_cached_steps_total") == num_cached
