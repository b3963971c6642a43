# SPDX-License-Identifier: Apache-2.0
"""Requests that are cancelled or late: they have no further step, and a pass that nobody waits for ends early."""

import gc
import weakref
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from diffusion_engine.networks import Networks
from diffusion_engine.request_state import RequestState, Status
from listening import Driver
from test_engine_failures import SMALL, spoil

MakeDriver = Callable[..., Driver]


def test_cancelled_request_has_no_further_step_and_frees_its_rows(make_driver: MakeDriver) -> None:
    driver = make_driver(max_rows=2)
    cancelled, waiting = driver.join(**SMALL, num_inference_steps=50), driver.join(**SMALL)
    driver.step()
    cancelled.state.cancel()
    driver.step()
    assert driver.passes == [[cancelled.state], [waiting.state]]
    assert cancelled.error().code == "cancelled"
    assert cancelled.state.status is Status.CANCELLED
    assert cancelled.state.encoded is None
    assert driver.engine.metrics.value("sdxl_engine_requests_total", how="cancelled") == 1
    assert driver.engine.metrics.value("sdxl_engine_cancel_to_free_seconds_total") > 0


@pytest.mark.parametrize(("num_parts", "other_ends"), [(1, "cancelled"), (2, "cancelled"), (1, "deadline_exceeded")])
def test_pass_that_nobody_waits_for_ends_before_its_unet(
    make_driver: MakeDriver, networks: Networks, num_parts: int, other_ends: str
) -> None:
    """The UNet takes most of a pass. Other requests in the pass get their step."""
    to_cancel: list[RequestState] = []
    unet_rows: list[int] = []

    def controlnet(*arguments: Any, **options: Any) -> Any:
        for state in to_cancel:
            if state is other.state and other_ends == "deadline_exceeded":
                state.arrived = -1e9
            else:
                state.cancel()
        return networks.controlnet(*arguments, **options)

    class NotedUNet:
        config = networks.unet.config

        def __call__(self, latents: torch.Tensor, *arguments: Any, **options: Any) -> Any:
            unet_rows.append(len(latents))
            return networks.unet(latents, *arguments, **options)

    driver = make_driver(networks=replace(networks, cpu_parallel_size=num_parts))
    driver.engine.denoiser._networks = replace(networks, controlnet=controlnet, unet=NotedUNet())
    cancelled, other = (driver.join(**SMALL, seed=seed, num_inference_steps=3, timeout_s=3600.0) for seed in (1, 2))
    driver.step()
    to_cancel.append(cancelled.state)
    driver.step()
    assert other.state.step_index == 2
    to_cancel[:] = [other.state]
    assert driver.step()
    assert other.state.step_index == 2
    assert unet_rows == [4 // num_parts] * num_parts * 2
    assert not driver.step()
    assert [each.error().code for each in (cancelled, other)] == ["cancelled", other_ends]
    metrics = driver.engine.metrics
    assert metrics.value("sdxl_engine_evictions_total", code="cancelled") == 0
    assert metrics.value("sdxl_engine_abandoned_passes_total", size="96x96") == 1
    assert metrics.value("sdxl_engine_steps_total", size="96x96") == 2


def test_tensors_of_a_pass_that_nobody_waits_for_are_free_after_it(make_driver: MakeDriver, networks: Networks) -> None:
    """Without the garbage collector, which counts objects and not their memory."""
    kept: list[weakref.ref[torch.Tensor]] = []

    def controlnet(*arguments: Any, **options: Any) -> Any:
        one.state.cancel()
        down, mid = networks.controlnet(*arguments, **options)
        kept.append(weakref.ref(mid))
        return down, mid

    driver = make_driver(networks=replace(networks, cpu_parallel_size=2))
    driver.engine.denoiser._networks = replace(networks, controlnet=controlnet)
    one = driver.join(**SMALL)
    gc.disable()
    try:
        driver.step()
        assert [each() for each in kept] == [None, None]
        assert driver.engine.metrics.value("sdxl_engine_first_step_seconds_total") > 0  # its first pass, too
    finally:
        gc.enable()


def test_pass_that_is_retried_alone_is_abandoned_too(driver: Driver) -> None:
    """A cancellation is not taken for a failure."""
    one, other = (driver.join(**SMALL, seed=seed) for seed in (1, 2))
    spoil(driver, lambda states: len(states) == 2, RuntimeError("only together"))
    residuals = driver.engine.denoiser._residuals

    def cancelling(*arguments: Any) -> Any:
        if len(driver.passes) == 2:  # the first one that runs alone
            one.state.cancel()
        return residuals(*arguments)

    driver.engine.denoiser._residuals = cancelling  # type: ignore[method-assign]
    driver.step()
    assert [each.state.step_index for each in (one, other)] == [0, 1]
    driver.step()
    assert one.error().code == "cancelled"
    assert one.state.status is Status.CANCELLED
    assert driver.engine.metrics.value("sdxl_engine_evictions_total", code="cancelled") == 0


def test_request_cancelled_before_its_first_step_is_not_encoded(driver: Driver, encoded_texts: list[list[str]]) -> None:
    cancelled = driver.join(**SMALL)
    cancelled.state.cancel()
    assert driver.step() is False
    assert cancelled.error().code == "cancelled"
    assert driver.passes == encoded_texts == []


def test_cancelling_a_finished_request_changes_nothing(driver: Driver) -> None:
    done = driver.join(**SMALL, num_inference_steps=1)
    driver.finish()
    done.state.cancel()
    driver.step()
    assert done.picture()
    assert done.state.status is Status.FINISHED


def test_request_past_its_deadline_fails_within_a_step(driver: Driver) -> None:
    late, other = driver.join(**SMALL, timeout_s=3600.0), driver.join(**SMALL)
    driver.step()
    late.state.arrived -= 3600.0
    driver.step()
    assert driver.passes[1] == [other.state]
    assert (late.error().code, late.error().field) == ("deadline_exceeded", "timeout_s")
