# SPDX-License-Identifier: Apache-2.0
"""Failures and cancellations affect only their own request."""

import threading
import weakref
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from diffusion_engine.engine import Engine
from diffusion_engine.errors import RequestError
from diffusion_engine.gpu_health import EXIT_STATUS
from diffusion_engine.networks import Networks
from diffusion_engine.noise_scheduler import NoiseSchedule
from diffusion_engine.request_state import RequestState, Status
from listening import Driver, Recorder, submit
from PIL import Image

MakeDriver = Callable[..., Driver]
MakeEngine = Callable[..., Engine]
SMALL = {"width": 96, "height": 96}


def spoil(driver: Driver, is_spoilt: Callable[[list[RequestState]], bool], error: Exception) -> None:
    """Make the passes of batches that match fail."""
    predict = driver.engine.denoiser.predict

    def fail(states: list[RequestState]) -> Any:
        noise = predict(states)
        if is_spoilt(list(states)):
            raise error
        return noise

    driver.engine.denoiser.predict = fail  # type: ignore[method-assign,assignment]


# ---- failures


def test_failed_pass_is_retried_request_by_request_and_only_the_culprit_fails(driver: Driver) -> None:
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
    assert np.abs(alone.pixels() - others[1].pixels()).max() <= 1  # the failed pass has changed nothing
    assert driver.engine.metrics.value("sdxl_engine_evictions_total", code="generation_failed") == 1


def test_failure_that_does_not_recur_fails_no_request(driver: Driver) -> None:
    submitted = [driver.join(**SMALL, seed=seed) for seed in (1, 2)]
    spoil(driver, lambda all_: len(all_) == 2 and submitted[0].state.step_index == 1, RuntimeError("once"))
    driver.finish()
    assert [each.picture().seed for each in submitted] == [1, 2]


def test_request_that_cannot_be_encoded_fails_alone(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_failing_noise_scheduler_fails_only_its_request(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_out_of_memory_lowers_the_row_limit_and_all_requests_finish(make_driver: MakeDriver) -> None:
    driver = make_driver(max_rows=16)
    submitted = [driver.join(**SMALL, seed=seed, num_inference_steps=2) for seed in range(5)]
    too_many = torch.OutOfMemoryError("CUDA out of memory")
    spoil(driver, lambda all_: sum(each.num_rows for each in all_) > 4, too_many)
    driver.finish()
    assert [one.picture().seed for one in submitted] == [0, 1, 2, 3, 4]
    assert driver.engine.row_limits.max_rows(submitted[0].state.key) <= 5
    assert driver.engine.describe()["engine"]["max_rows"]["96x96"] <= 5
    assert len(driver.passes[-1]) <= 2


@pytest.mark.parametrize("num_requests", [1, 2])
def test_tensors_of_a_pass_without_enough_memory_are_free_before_the_retry(driver: Driver, num_requests: int) -> None:
    """An exception keeps the frames of the failed pass, and these keep its tensors, for as long as it is handled."""
    predict = driver.engine.denoiser.predict
    kept: list[weakref.ref[torch.Tensor]] = []

    def fail_once(states: list[RequestState]) -> Any:
        if not kept:
            activations = torch.zeros(1)
            kept.append(weakref.ref(activations))
            raise torch.OutOfMemoryError("CUDA out of memory")
        assert kept[0]() is None
        return predict(states)

    driver.engine.denoiser.predict = fail_once  # type: ignore[method-assign,assignment]
    submitted = [driver.join(**SMALL, seed=seed, num_inference_steps=1) for seed in range(num_requests)]
    driver.finish()
    assert [one.picture().seed for one in submitted] == list(range(num_requests))


def test_preview_that_fails_is_omitted(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    one = driver.join(**SMALL, num_inference_steps=2, preview_every=1)
    monkeypatch.setattr(driver.engine.vae_decoder, "previews", fail)
    driver.finish()
    assert one.picture()
    assert (one.recorder.steps, one.recorder.previews) == ([1], {})


@pytest.mark.parametrize(
    "error",
    [torch.AcceleratorError("CUDA error: device-side assert"), RuntimeError("CUDA driver error: unknown error")],
)
def test_process_ends_if_its_gpu_no_longer_works(
    driver: Driver, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    calls: list[Any] = []
    monkeypatch.setattr("os._exit", calls.append)
    monkeypatch.setattr(driver.engine, "_device", torch.device("cuda"))
    works, broken = (driver.join(**SMALL, seed=seed) for seed in (1, 2))
    spoil(driver, lambda all_: works.state in all_, torch.AcceleratorError("CUDA error: invalid argument"))
    monkeypatch.setattr(torch, "zeros", lambda *_, **__: torch.ones(1))
    driver.step()
    assert works.error().code == "generation_failed"
    assert calls == []  # the tiny computation works

    def fail(*_: object, **__: object) -> Any:
        raise error

    spoil(driver, lambda all_: broken.state in all_, error)
    monkeypatch.setattr(torch, "zeros", fail)
    monkeypatch.setattr(driver.engine.output_processor, "flush", lambda: calls.append("flush"))
    driver.step()
    assert calls == ["flush", EXIT_STATUS]


def test_flushing_waits_for_the_events_before_it(driver: Driver) -> None:
    one, may_end = driver.join(**SMALL), threading.Event()
    sent = []
    one.state.listener = SimpleNamespace(failed=lambda error: sent.append((may_end.wait(60), error)))
    error = RequestError("failed", "It failed.")
    driver.engine.output_processor.failed(one.state, error)
    flushing = threading.Thread(target=driver.engine.output_processor.flush, kwargs={"timeout_s": 60})
    flushing.start()
    assert flushing.is_alive()
    may_end.set()
    flushing.join()
    assert sent == [(True, error)]


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("GET was unable to find an engine to execute this computation"),
    ],
)
def test_request_that_runs_out_of_memory_alone_fails(driver: Driver, error: Exception) -> None:
    too_big, other = driver.join(width=192, height=192), driver.join(**SMALL)
    spoil(driver, lambda all_: too_big.state in all_, error)
    driver.finish()
    assert (too_big.error().code, too_big.error().retry_after_s) == ("out_of_memory", 5)
    assert other.picture()


@pytest.mark.parametrize("number", [torch.nan, torch.inf])
def test_numbers_that_are_not_finite_fail_their_request_in_the_same_step(driver: Driver, number: float) -> None:
    broken = driver.join(**SMALL, preview_every=1, num_inference_steps=9)
    other = driver.join(**SMALL, seed=2, num_inference_steps=3)
    driver.step()
    with torch.inference_mode():
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


def test_vae_overflow_is_an_error_instead_of_a_black_picture(make_driver: MakeDriver, networks: Networks) -> None:
    """Another request that is decoded at the same time gets its picture."""
    factors = iter([torch.nan, 1.0])

    def decode(latents: torch.Tensor, **options: Any) -> Any:
        return (networks.vae_decode(latents, **options)[0] * next(factors),)

    driver = make_driver(networks=replace(networks, vae_decode=decode))
    submitted = [driver.join(**SMALL, seed=seed, num_inference_steps=1) for seed in (1, 2)]
    driver.finish()
    submitted.sort(key=lambda each: each.state.status is Status.FINISHED)
    assert submitted[0].error().code == "vae_overflow"
    assert submitted[1].picture()


def test_listener_that_raises_affects_no_other_request(driver: Driver) -> None:
    class Raising(Recorder):
        def moved(self, position: object) -> None: ...

        def progress(self, step: int, num_steps: int, preview: bytes | None) -> None:
            raise RuntimeError("a bug of the listener's")

    raising, other = driver.join(Raising(), **SMALL), driver.join(**SMALL, seed=2)
    driver.finish()
    assert other.picture().seed == 2
    assert raising.picture().seed == 1


def test_picture_that_cannot_be_encoded_fails_its_request(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_step_that_raises_fails_the_present_requests_and_later_ones_are_served(
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
        assert submit(engine, **SMALL).error().code == "generation_failed"
        assert submit(engine, **SMALL).picture().seed == 1
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
def test_unreadable_scribble_is_rejected_before_the_networks_run(
    driver: Driver, values: dict[str, Any], code: str
) -> None:
    rejected = submit(driver.engine, **values)
    assert rejected.error().code == code
    assert driver.passes == []
    assert rejected.state.status is Status.FAILED
