# SPDX-License-Identifier: Apache-2.0
"""Whose failure it is, and who leaves: one request's trouble is its own."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from diffusion_engine.engine import Engine
from diffusion_engine.networks import Networks
from diffusion_engine.noise_scheduler import NoiseSchedule
from diffusion_engine.request_state import RequestState, Status
from listening import Driver, Recorder, visit
from PIL import Image

MakeDriver = Callable[..., Driver]
MakeEngine = Callable[..., Engine]
SMALL = {"width": 96, "height": 96}


def spoil(driver: Driver, is_spoilt: Callable[[list[RequestState]], bool], error: Exception) -> None:
    """Passes of such batches fail."""
    predict = driver.engine.denoiser.predict

    def fail(states: list[RequestState]) -> Any:
        noise = predict(states)
        if is_spoilt(list(states)):
            raise error
        return noise

    driver.engine.denoiser.predict = fail  # type: ignore[method-assign,assignment]


# ---- failures


def test_a_failing_pass_is_tried_one_by_one_and_only_the_culprit_leaves(driver: Driver) -> None:
    others = [driver.join(**SMALL, seed=seed, num_inference_steps=3) for seed in (1, 2)]
    culprit = driver.join(**SMALL, prompt=b"the culprit")
    spoil(driver, lambda all_: culprit.state in all_, RuntimeError("secret path /srv/weights"))
    driver.step()
    assert culprit.error().code == "generation_failed"
    assert "secret" not in culprit.error().detail
    assert [each.state.step_index for each in others] == [1, 1]
    driver.finish()
    assert culprit.state not in driver.passes[-1]
    alone = driver.join(**SMALL, seed=2, num_inference_steps=3)
    driver.finish()
    assert np.abs(alone.pixels() - others[1].pixels()).max() <= 1  # the failed pass left no trace
    assert driver.engine.metrics.value("sdxl_engine_evictions_total", code="generation_failed") == 1


def test_a_failure_that_does_not_come_again_costs_nobody_anything(driver: Driver) -> None:
    visits = [driver.join(**SMALL, seed=seed) for seed in (1, 2)]
    spoil(driver, lambda all_: len(all_) == 2 and visits[0].state.step_index == 1, RuntimeError("once"))
    driver.finish()
    assert [each.picture().seed for each in visits] == [1, 2]


def test_who_cannot_be_encoded_leaves_alone(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    encode = driver.engine.encoder.encode

    def fail_for_one(state: RequestState) -> Any:
        if state.request.prompt == "the culprit":
            raise RuntimeError("no")
        return encode(state)

    monkeypatch.setattr(driver.engine.encoder, "encode", fail_for_one)
    culprit, other = driver.join(**SMALL, prompt=b"the culprit"), driver.join(**SMALL)
    driver.finish()
    assert culprit.error().code == "generation_failed"
    assert other.picture()


def test_a_scheduler_that_cannot_go_on_fails_its_own_request(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    culprit, other = driver.join(**SMALL), driver.join(**SMALL, seed=2)
    driver.step()
    step, broken = NoiseSchedule.step, culprit.state.encoded.schedule

    def fail_for_one(schedule: NoiseSchedule, *arguments: Any) -> Any:
        if schedule is broken:
            raise IndexError("index 4 is out of bounds")
        return step(schedule, *arguments)

    monkeypatch.setattr(NoiseSchedule, "step", fail_for_one)
    driver.step()
    assert culprit.error().code == "generation_failed"
    driver.finish()
    assert other.picture().seed == 2


def test_out_of_memory_sheds_rows_and_everybody_finishes(make_driver: MakeDriver) -> None:
    driver = make_driver(max_rows=16)
    visits = [driver.join(**SMALL, seed=seed, num_inference_steps=2) for seed in range(5)]
    too_many = torch.OutOfMemoryError("CUDA out of memory")
    spoil(driver, lambda all_: sum(each.num_rows for each in all_) > 4, too_many)
    driver.finish()
    assert [visit.picture().seed for visit in visits] == [0, 1, 2, 3, 4]
    assert driver.engine.row_limits.max_rows(visits[0].state.key) <= 5
    assert driver.engine.describe()["engine"]["max_rows"]["96x96"] <= 5
    assert len(driver.passes[-1]) <= 2


def test_a_request_that_does_not_fit_alone_is_told_so(driver: Driver) -> None:
    too_big, other = driver.join(width=192, height=192), driver.join(**SMALL)
    spoil(driver, lambda all_: too_big.state in all_, torch.OutOfMemoryError("CUDA out of memory"))
    driver.finish()
    assert (too_big.error().code, too_big.error().retry_after_s) == ("out_of_memory", 5)
    assert other.picture()


@pytest.mark.parametrize("number", [torch.nan, torch.inf])
def test_numbers_that_are_not_finite_end_their_request_in_the_step_they_appear_in(
    driver: Driver, number: float
) -> None:
    broken = driver.join(**SMALL, preview_every=1, num_inference_steps=9)
    other = driver.join(**SMALL, seed=2, num_inference_steps=3)
    driver.step()
    broken.state.encoded.latents[0, 0, 0, 0] = number
    driver.step()
    assert broken.error().code == "generation_failed"
    assert "not finite in step 2 of 9" in broken.error().detail
    assert broken.state.status is Status.FAILED
    assert broken.recorder.steps == [1]
    driver.finish()
    assert driver.passes[-1] == [other.state]
    assert driver.engine.metrics.value("sdxl_engine_evictions_total", code="generation_failed") == 1
    alone = driver.join(**SMALL, seed=2, num_inference_steps=3)
    driver.finish()
    assert np.abs(alone.pixels() - other.pixels()).max() <= 1


def test_a_picture_that_the_vae_cannot_make_is_an_error_and_not_black(
    make_driver: MakeDriver, networks: Networks
) -> None:
    """A request that is decoded at the same time gets its picture."""
    factors = iter([torch.nan, 1.0])

    def decode(latents: torch.Tensor, **options: Any) -> Any:
        return (networks.vae_decode(latents, **options)[0] * next(factors),)

    driver = make_driver(networks=replace(networks, vae_decode=decode))
    visits = [driver.join(**SMALL, seed=seed, num_inference_steps=1) for seed in (1, 2)]
    driver.finish()
    visits.sort(key=lambda each: each.state.status is Status.FINISHED)
    assert visits[0].error().code == "vae_overflow"
    assert visits[1].picture()


def test_a_listener_that_raises_is_its_own_problem(driver: Driver) -> None:
    class Raising(Recorder):
        def progress(self, step: int, num_steps: int, preview: bytes | None) -> None:
            raise RuntimeError("a bug of the listener's")

    raising, other = driver.join(Raising(), **SMALL), driver.join(**SMALL, seed=2)
    driver.finish()
    assert other.picture().seed == 2
    assert raising.picture().seed == 1


def test_a_picture_that_cannot_be_written_is_told_as_a_failure(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail_for_jpeg(image: Image.Image, *, output_format: str, output_quality: int, receipt: str = "") -> bytes:
        if output_format == "jpeg":
            raise OSError("encoder error -2")
        return b"written"

    monkeypatch.setattr("diffusion_engine.output_processor.encode_picture", fail_for_jpeg)
    broken = driver.join(**SMALL, output_format=b"jpeg", num_inference_steps=1)
    other = driver.join(**SMALL, num_inference_steps=1)
    driver.finish()
    assert broken.error().code == "generation_failed"
    assert other.picture().content == b"written"


def test_a_step_that_breaks_down_is_told_to_everybody_and_the_next_ones_are_served(
    make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make_engine()
    schedule = engine.step_scheduler.schedule
    breakdowns = iter([RuntimeError("a bug of ours")])

    def break_down_once() -> list[RequestState]:
        for error in breakdowns:
            raise error
        return schedule()

    monkeypatch.setattr(engine.step_scheduler, "schedule", break_down_once)
    engine.start()
    try:
        assert visit(engine, **SMALL).error().code == "generation_failed"
        assert visit(engine, **SMALL).picture().seed == 1
    finally:
        engine.stop()


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({"image": b"no base64!"}, "invalid_base64"),
        ({"image": b"\x89PNG\r\n\x1a\n"}, "truncated_image"),
        ({"width": 100}, "unsupported_size"),
    ],
)
def test_what_cannot_be_read_is_refused_before_the_networks_run(
    driver: Driver, values: dict[str, Any], code: str
) -> None:
    refused = visit(driver.engine, **values)
    assert refused.error().code == code
    assert driver.passes == []
    assert refused.state.status is Status.FAILED


# ---- leaving


def test_after_a_cancel_no_step_contains_the_request_and_its_rows_are_free(make_driver: MakeDriver) -> None:
    driver = make_driver(max_rows=2)
    gone, waiting = driver.join(**SMALL, num_inference_steps=50), driver.join(**SMALL)
    driver.step()
    gone.state.cancel()
    driver.step()
    assert driver.passes == [[gone.state], [waiting.state]]
    assert gone.error().code == "cancelled"
    assert gone.state.status is Status.CANCELLED
    assert gone.state.encoded is None
    assert driver.engine.metrics.value("sdxl_engine_requests_total", how="cancelled") == 1
    assert driver.engine.metrics.value("sdxl_engine_cancel_to_free_seconds_total") > 0


def test_a_cancel_before_the_first_step_costs_no_step_and_no_encoding(
    driver: Driver, encoded_texts: list[list[str]]
) -> None:
    gone = driver.join(**SMALL)
    gone.state.cancel()
    assert driver.step() is False
    assert gone.error().code == "cancelled"
    assert driver.passes == encoded_texts == []


def test_a_cancel_after_the_end_changes_nothing(driver: Driver) -> None:
    done = driver.join(**SMALL, num_inference_steps=1)
    driver.finish()
    done.state.cancel()
    driver.step()
    assert done.picture()
    assert done.state.status is Status.FINISHED


def test_a_late_request_leaves_within_a_step(driver: Driver) -> None:
    late, other = driver.join(**SMALL, timeout_s=3600.0), driver.join(**SMALL)
    driver.step()
    late.state.arrived -= 3600.0
    driver.step()
    assert driver.passes[1] == [other.state]
    assert (late.error().code, late.error().field) == ("deadline_exceeded", "timeout_s")
