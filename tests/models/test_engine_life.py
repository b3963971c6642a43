# SPDX-License-Identifier: Apache-2.0
"""The engine's request limit, its stop, and the events, metrics and description that it reports."""

import io
import threading
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from diffusion_engine.capabilities import SCHEDULERS
from diffusion_engine.config import EngineConfig
from diffusion_engine.engine import Engine
from diffusion_engine.errors import RequestError
from diffusion_engine.networks import Networks
from diffusion_engine.request_state import GeneratedPicture, RequestState, Status
from diffusion_engine.vae_decoder import VAEDecoder
from diffusion_engine.weights import load_pipeline
from drawings import CHECKPOINT
from listening import Driver, Recorder, submit
from PIL import Image

MakeDriver = Callable[..., Driver]
MakeEngine = Callable[..., Engine]
SMALL = {"width": 96, "height": 96}


# ---- the request limit and the stop


def test_full_engine_rejects_requests_with_the_time_to_retry(make_driver: MakeDriver) -> None:
    driver = make_driver(max_requests=2)
    inside = [driver.join(**SMALL, num_inference_steps=1) for _ in range(2)]
    with pytest.raises(RequestError) as rejection:
        driver.join(**SMALL)
    assert rejection.value.code == "queue_full"
    assert rejection.value.retry_after_s is not None
    assert rejection.value.retry_after_s >= 1
    driver.finish()
    assert [each.picture().seed for each in inside] == [1, 1]
    assert driver.join(**SMALL)


def test_each_ended_request_makes_way_for_another(make_driver: MakeDriver) -> None:
    driver = make_driver(max_requests=1)
    assert submit(driver.engine, image=b"no base64!").error().code == "invalid_base64"
    cancelled = driver.join(**SMALL)
    cancelled.state.cancel()
    driver.finish()
    broken = driver.join(**SMALL)
    driver.step()
    broken.state.encoded.latents = broken.state.encoded.latents * torch.nan
    driver.finish()
    assert driver.join(**SMALL)
    assert driver.engine.metrics.value("sdxl_engine_requests") == 1


class Holding(Recorder):
    """A listener whose first event blocks until the test sets `release`."""

    def __init__(self) -> None:
        super().__init__()
        self.is_held = threading.Event()
        self.release = threading.Event()

    def moved(self, position: object) -> None: ...

    def progress(self, step: int, num_steps: int, preview: bytes | None) -> None:
        super().progress(step, num_steps, preview)
        self.is_held.set()
        assert self.release.wait(60)


def test_stopping_engine_fails_its_requests_and_rejects_others(make_engine: MakeEngine) -> None:
    engine = make_engine(max_rows=2)
    predict, is_running, may_go_on = engine.denoiser.predict, threading.Event(), threading.Event()

    def hold(states: list[RequestState]) -> Any:
        is_running.set()
        assert may_go_on.wait(60)
        return predict(states)

    engine.denoiser.predict = hold  # type: ignore[method-assign,assignment]
    engine.start()
    submitted = [submit(engine, **SMALL, num_inference_steps=50) for _ in range(6)]
    assert is_running.wait(60)
    stopping = threading.Thread(target=engine.stop)
    stopping.start()
    with pytest.raises(RequestError) as rejection:  # noqa: PT012
        while True:
            submitted.append(submit(engine, **SMALL, num_inference_steps=50))
    assert rejection.value.code == "shutting_down"
    engine._picture_decoders.stop()
    may_go_on.set()
    stopping.join()
    assert [each.error().code for each in submitted] == ["shutting_down"] * len(submitted)
    assert [len(each.recorder.finals) for each in submitted] == [1] * len(submitted)
    assert engine.metrics.value("sdxl_engine_requests") == 0


def test_request_to_a_stopping_engine_is_rejected_or_fails(make_engine: MakeEngine) -> None:
    engine = make_engine(max_requests=100_000)
    engine.start()
    taken: list[Recorder] = []
    rejections: list[str] = []

    def keep_coming() -> None:
        while not rejections:
            recorder = Recorder()
            try:
                submit(engine, recorder, **SMALL, image=None, num_inference_steps=1)
            except RequestError as rejection:
                rejections.append(rejection.code)
            else:
                taken.append(recorder)

    threads = [threading.Thread(target=keep_coming) for _ in range(4)]
    for thread in threads:
        thread.start()
    engine.stop()
    for thread in threads:
        thread.join()
    assert set(rejections) == {"shutting_down"}
    for recorder in taken:
        recorder.final()
    assert all(len(recorder.finals) == 1 for recorder in taken)
    assert engine.metrics.value("sdxl_engine_requests") == 0


# ---- events, metrics, description


def opened(preview: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(preview))
    image.load()
    return image


def test_previews_follow_preview_every_and_are_small_webps(driver: Driver) -> None:
    often = driver.join(width=160, height=96, num_inference_steps=6, preview_every=2)
    never = driver.join(width=160, height=96, num_inference_steps=6)
    for _ in range(6):
        driver.step()
    often.picture()
    assert never.recorder.previews == {}
    assert list(often.recorder.previews) == [2, 4]
    for preview in often.recorder.previews.values():
        assert (opened(preview).format, opened(preview).size) == ("WEBP", (40, 24))


@pytest.mark.parametrize("scheduler", ["euler", "heun", "unipc", "dpmpp_2m_karras", "dpmpp_sde", "lcm", "tcd"])
def test_last_preview_resembles_the_picture(driver: Driver, scheduler: str) -> None:
    shown = driver.join(num_inference_steps=8, preview_every=7, scheduler=scheduler.encode())
    driver.finish()
    size = (32, 32)
    picture = Image.fromarray(shown.pixels().astype(np.uint8)).resize(size, Image.Resampling.BOX)
    preview = opened(shown.recorder.previews[max(shown.recorder.previews)]).convert("RGB")
    difference = np.abs(np.asarray(picture).astype(int) - np.asarray(preview).astype(int))
    assert difference.mean() < 25


def test_preview_of_an_encoded_colour_has_the_same_colour(networks: Networks) -> None:
    decoder, side = VAEDecoder(networks), 64
    for colour in ((210, 30, 30), (40, 70, 205), (240, 238, 235), (20, 20, 20)):
        image = torch.tensor(colour, dtype=torch.float32).view(1, 3, 1, 1).expand(1, 3, side, side) / 127.5 - 1
        with torch.inference_mode():
            latents = networks.vae.encode(image).latent_dist.mode() * networks.vae.config.scaling_factor
        middle = decoder.previews([latents])[0]()[4:-4, 4:-4].mean(axis=(0, 1))
        assert np.abs(middle - np.array(colour)).max() < 30


def test_newer_progress_replaces_unsent_progress_but_keeps_its_preview(driver: Driver) -> None:
    slow = Holding()
    driver.join(slow, **SMALL, num_inference_steps=6, preview_every=3)
    driver.step()
    assert slow.is_held.wait(60)
    for _ in range(3):
        driver.step()
    slow.release.set()
    driver.finish()
    slow.picture()
    assert slow.steps[:2] == [1, 4]
    assert slow.progress_events[1][2] is not None  # the preview of step 3
    assert slow.steps == sorted(set(slow.steps))


def test_slow_listener_delays_no_step(driver: Driver) -> None:
    slow = Holding()
    driver.join(slow, **SMALL)
    driver.step()
    assert slow.is_held.wait(60)
    other = driver.join(**SMALL, num_inference_steps=1)
    driver.step()
    assert other.state.status is Status.FINISHED
    slow.release.set()
    assert other.picture()


def test_prompt_is_not_logged(
    driver: Driver, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    driver.join(**SMALL, prompt=b"my private matters, " * 30, num_inference_steps=1)
    driver.finish()
    captured = capfd.readouterr()
    assert "private" not in caplog.text + captured.out + captured.err


def test_time_of_a_pass_includes_the_wait_for_the_gpu(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU, `predict` only queues the pass, and the check of its result waits for it."""
    now = 1000.0
    monkeypatch.setattr("diffusion_engine.engine.time", SimpleNamespace(monotonic=lambda: now))
    are_finite = driver.engine.vae_decoder.are_finite

    def wait(states: Sequence[RequestState]) -> list[bool]:
        nonlocal now
        now += 5.0
        return are_finite(states)

    monkeypatch.setattr(driver.engine.vae_decoder, "are_finite", wait)
    one = driver.join(**SMALL, num_inference_steps=2)
    driver.finish()
    assert one.picture().info["timings_s"]["denoise"] == 10.0
    assert driver.engine.metrics.value("sdxl_engine_step_seconds_total", size="96x96") == 10.0


def test_metrics_count_passes_and_requests(driver: Driver) -> None:
    metrics = driver.engine.metrics
    driver.join(**SMALL, num_inference_steps=2)
    driver.join(**SMALL, num_inference_steps=3, guidance_scale=1.0)
    assert metrics.value("sdxl_engine_requests") == 2
    driver.finish()
    assert metrics.value("sdxl_engine_steps_total", size="96x96") == 3
    assert metrics.value("sdxl_engine_rows_total", size="96x96") == 3 + 3 + 1
    assert metrics.value("sdxl_engine_max_rows", size="96x96") == 8
    assert metrics.value("sdxl_engine_step_seconds_total", size="96x96") > 0
    assert metrics.value("sdxl_engine_requests_total", how="finished") == 2
    assert metrics.value("sdxl_engine_requests") == 0
    assert metrics.value("sdxl_engine_started_total") == 2
    waited = metrics.value("sdxl_engine_queue_wait_seconds_total")
    assert metrics.value("sdxl_engine_first_step_seconds_total") > waited > 0
    with pytest.raises(KeyError):
        metrics.add("sdxl_engine_misspelt_total")


def test_ended_request_is_counted_before_its_status_changes(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the metrics lack the last request before an idle period."""
    visited, statuses = driver.join(**SMALL, num_inference_steps=1), []
    count = driver.engine.metrics.add

    def note(name: str, amount: float = 1, **labels: str) -> None:
        if name == "sdxl_engine_requests_total":
            statuses.append(visited.state.status)
        count(name, amount, **labels)

    monkeypatch.setattr(driver.engine.metrics, "add", note)
    driver.finish()
    assert statuses == [Status.RUNNING]


def test_describe_returns_capabilities_and_engine_settings(make_engine: MakeEngine) -> None:
    description = make_engine(max_rows=6, max_requests=9).describe()
    assert description["name"] == "demo_checkpoint"
    assert (96, 160) in description["sizes"]
    assert description["defaults"]["num_inference_steps"] == 6
    assert description["limits"]["max_inference_steps"] == 50
    assert description["schedulers"] == SCHEDULERS
    engine = description["engine"]
    assert (engine["max_requests"], engine["policy"], engine["max_rows"]["128x128"]) == (9, "first_come", 6)
    assert (engine["device"], engine["dtype"], engine["torch"]) == ("cpu", "float32", torch.__version__)


# ---- other dtypes


def test_bfloat16_makes_nearly_the_same_picture(
    make_driver: MakeDriver, driver: Driver, record_testsuite_property: Callable[[str, object], None]
) -> None:
    networks = Networks.of_pipeline(
        load_pipeline(EngineConfig(checkpoint=str(CHECKPOINT), device="cpu", dtype="bfloat16"))
    )
    half = make_driver(networks=networks)
    # Few steps: on a processor without bfloat16 instructions, each takes ten times as long.
    values = [{**SMALL, "seed": seed, "num_inference_steps": 2} for seed in (1, 2)]
    pictures = []
    for each in (driver, half):
        submitted = [each.join(**one, preview_every=1) for one in values]
        each.finish()
        pictures.append(np.stack([one.pixels() for one in submitted]))
    difference = np.abs(pictures[0] - pictures[1])
    record_testsuite_property("bfloat16_mean_difference_of_255", float(difference.mean()))
    record_testsuite_property("bfloat16_largest_difference_of_255", int(difference.max()))
    assert 0 < difference.mean() < 2
    assert half.engine.describe()["engine"]["dtype"] == "bfloat16"


def test_float16_runs_where_the_processor_can(make_driver: MakeDriver, driver: Driver) -> None:
    config = EngineConfig(checkpoint=str(CHECKPOINT), device="cpu", dtype="float16")
    submitted = []
    for each in (driver, make_driver(networks=Networks.of_pipeline(load_pipeline(config)))):
        submitted.append(each.join(**SMALL, num_inference_steps=1, conditioning_scale=0.7))
        each.finish()
    assert np.abs(submitted[0].pixels() - submitted[1].pixels()).mean() < 2


def test_events_of_a_running_engine_have_the_documented_types(running_engine: Engine) -> None:
    one = submit(running_engine, preview_every=1, **SMALL)
    assert isinstance(one.picture(), GeneratedPicture)
    assert all(num_steps == 4 for _, num_steps, _ in one.recorder.progress_events)
    assert one.recorder.steps == sorted(set(one.recorder.steps))
    assert one.recorder.steps[-1] <= 3  # in place of the last progress, the picture is sent
