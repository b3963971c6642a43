# SPDX-License-Identifier: Apache-2.0
"""The engine, mostly step by step: who is in a pass, what is computed once, whose failure it is, who is told what."""

import io
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from diffusion_engine.capabilities import Capabilities
from diffusion_engine.config import EngineConfig
from diffusion_engine.decoder import Decoder
from diffusion_engine.denoiser import Denoiser
from diffusion_engine.encoder import Encoder
from diffusion_engine.engine import Engine
from diffusion_engine.generation import GeneratedPicture, Generation, Status
from diffusion_engine.intake import read_request
from diffusion_engine.networks import Networks
from diffusion_engine.noise_scheduler import NoiseSchedule, NoiseSchedulers
from diffusion_engine.reception import receive
from diffusion_engine.request import RequestError
from diffusion_engine.silence import Silence
from diffusion_engine.weights import load_pipeline
from drawings import CHECKPOINT, row
from listening import Driver, Recorder, visit
from PIL import Image

MakeDriver = Callable[..., Driver]
MakeEngine = Callable[..., Engine]
SMALL = {"width": 96, "height": 96}


class Noting:
    """A network, or a part of one, that notes how many rows each call has."""

    def __init__(self, network: Any) -> None:
        self.network = network
        self.rows: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.network, name)

    def __call__(self, first: torch.Tensor, *arguments: Any, **options: Any) -> Any:
        self.rows.append(len(first))
        return self.network(first, *arguments, **options)


def spoil(driver: Driver, is_spoilt: Callable[[list[Generation]], bool], error: Exception) -> None:
    """Passes of such company fail."""
    predict = driver.engine.denoiser.predict

    def fail(generations: list[Generation]) -> Any:
        noise = predict(generations)
        if is_spoilt(list(generations)):
            raise error
        return noise

    driver.engine.denoiser.predict = fail  # type: ignore[method-assign,assignment]


# ---- steps


def test_a_step_moves_everyone_in_it_by_one_and_the_last_one_ends_it(driver: Driver) -> None:
    short, long = driver.join(**SMALL, num_inference_steps=2), driver.join(**SMALL, num_inference_steps=3)
    assert driver.step()
    assert (short.generation.step_index, long.generation.step_index) == (1, 1)
    assert short.generation.status is long.generation.status is Status.RUNNING
    driver.step()
    assert short.generation.status is Status.FINISHED
    driver.step()
    assert long.generation.status is Status.FINISHED
    assert driver.step() is False
    assert [len(each) for each in driver.passes] == [2, 2, 1]
    assert (short.recorder.steps, long.recorder.steps[-1]) == ([1], 2)
    assert short.picture().seed == 1


def test_a_newcomer_joins_those_who_are_at_a_later_step(driver: Driver) -> None:
    first = driver.join(**SMALL)
    driver.step()
    second = driver.join(**SMALL, scheduler=b"lcm", guidance_scale=1.0)
    driver.step()
    assert driver.passes[-1] == [first.generation, second.generation]
    assert (first.generation.step_index, second.generation.step_index) == (2, 1)


def test_two_sizes_are_two_passes(driver: Driver) -> None:
    driver.join(**SMALL)
    driver.join(width=128, height=128)
    driver.step()
    driver.step()
    assert [[each.key for each in generations] for generations in driver.passes] == [[(96, 96)], [(128, 128)]]


def test_who_finds_no_row_waits_and_comes_in_when_one_is_free(make_driver: MakeDriver) -> None:
    driver = make_driver(max_rows=2)
    first, second = driver.join(**SMALL, num_inference_steps=1), driver.join(**SMALL, num_inference_steps=1)
    driver.step()
    assert driver.passes == [[first.generation]]
    assert second.generation.encoded is None  # waiting costs no tensors
    driver.step()
    assert driver.passes[1] == [second.generation]


def test_the_tensors_of_a_finished_request_are_let_go(driver: Driver) -> None:
    done = driver.join(**SMALL, num_inference_steps=1)
    driver.finish()
    assert done.generation.encoded is None
    assert len(driver.engine.batcher) == 0


# ---- what is computed, and how often


@pytest.mark.parametrize(
    ("values", "num_rows"),
    [
        ({}, [2, 2]),
        ({"guidance_scale": 1.0}, [1, 1]),
        ({"conditioning_scale": 0.0}, []),
        ({"image": None}, []),
        ({"control_guidance_end": 0.5}, [2]),
        ({"control_guidance_start": 0.5}, [2]),
    ],
)
def test_the_controlnet_runs_only_where_the_scribble_counts(
    make_driver: MakeDriver, networks: Networks, values: dict[str, Any], num_rows: list[int]
) -> None:
    controlnet = Noting(networks.controlnet)
    driver = make_driver(networks=replace(networks, controlnet=controlnet, num_lanes=1))
    driver.join(**SMALL, num_inference_steps=2, **values)
    driver.finish()
    assert controlnet.rows == num_rows


def test_in_company_the_controlnet_runs_for_those_rows_alone_that_need_it(
    make_driver: MakeDriver, networks: Networks
) -> None:
    controlnet, unet = Noting(networks.controlnet), Noting(networks.unet)
    driver = make_driver(networks=replace(networks, controlnet=controlnet, unet=unet, num_lanes=1))
    driver.join(**SMALL, conditioning_scale=0.0, num_inference_steps=2)
    driver.join(**SMALL, control_guidance_end=0.5, num_inference_steps=2)
    driver.join(**SMALL, guidance_scale=1.0, num_inference_steps=2)
    driver.finish()
    assert unet.rows == [5, 5]
    assert controlnet.rows == [3, 1]


def test_a_scribble_is_embedded_once_and_not_in_every_step(make_driver: MakeDriver, networks: Networks) -> None:
    embedding = Noting(networks.control_embedding)
    driver = make_driver(networks=replace(networks, control_embedding=embedding))
    driver.join(**SMALL)
    driver.join(**SMALL, image=None)
    driver.finish()
    assert embedding.rows == [1]


@pytest.fixture
def encoded_texts(networks: Networks, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the text encoders were asked for, in order."""
    texts: list[str] = []
    encode = networks.pipeline.encode_prompt

    def note(text: str, **options: Any) -> Any:
        texts.append(text)
        return encode(text, **options)

    monkeypatch.setattr(networks.pipeline, "encode_prompt", note)
    return texts


def test_a_text_that_was_asked_for_lately_is_not_encoded_again(driver: Driver, encoded_texts: list[str]) -> None:
    for prompt in (b"a red fish", b"a red fish", b"a blue star"):
        driver.join(**SMALL, prompt=prompt, negative_prompt=b"grey", num_inference_steps=1)
        driver.finish()
    assert sorted(encoded_texts) == ["a blue star", "a red fish", "grey"]


def test_the_text_that_was_not_asked_for_longest_is_forgotten(networks: Networks, encoded_texts: list[str]) -> None:
    encoder = Encoder(networks, NoiseSchedulers({}, (), networks.device), text_cache_size=2)
    for text in ("one", "two", "one", "three", "one", "two"):
        encoder.text(text)
    assert encoded_texts == ["one", "two", "three", "two"]


def test_a_new_request_never_gets_the_tensors_of_one_that_is_gone(
    networks: Networks, capabilities: Capabilities
) -> None:
    """Python gives a new object the address of one that is gone; an address alone says nothing."""
    schedulers = NoiseSchedulers(networks.pipeline.scheduler.config, capabilities.schedulers, networks.device)
    encoder, denoiser = Encoder(networks, schedulers), Denoiser(networks)

    red, yellow = (
        read_request(row(**SMALL, prompt=prompt), capabilities)
        for prompt in (b"a red circle on a blue background", b"a yellow star on a green background")
    )
    silence = Silence()

    def predict(generation: Generation, by: Denoiser) -> torch.Tensor:
        if generation.encoded is None:
            receive(generation, capabilities, max_pixels=1_000_000)
            generation.encoded = encoder.encode(generation)
        return by.predict([generation])[0]

    generation: Generation | None = Generation(request=red, listener=silence, arrived=0.0)
    predict(generation, denoiser)
    generation = None  # its place in memory is free, and the next one takes it
    newcomer = Generation(request=yellow, listener=silence, arrived=0.0)
    assert torch.equal(predict(newcomer, denoiser), predict(newcomer, Denoiser(networks)))


# ---- failures


def test_a_failing_pass_is_tried_one_by_one_and_only_the_culprit_leaves(driver: Driver) -> None:
    others = [driver.join(**SMALL, seed=seed, num_inference_steps=3) for seed in (1, 2)]
    culprit = driver.join(**SMALL, prompt=b"the culprit")
    spoil(driver, lambda all_: culprit.generation in all_, RuntimeError("secret path /srv/weights"))
    driver.step()
    assert culprit.error().code == "generation_failed"
    assert "secret" not in culprit.error().detail
    assert [each.generation.step_index for each in others] == [1, 1]
    driver.finish()
    assert culprit.generation not in driver.passes[-1]
    alone = driver.join(**SMALL, seed=2, num_inference_steps=3)
    driver.finish()
    assert np.abs(alone.pixels() - others[1].pixels()).max() <= 1  # the failed pass left no trace
    assert driver.engine.metrics.value("sdxl_engine_evictions_total", code="generation_failed") == 1


def test_a_failure_that_does_not_come_again_costs_nobody_anything(driver: Driver) -> None:
    visits = [driver.join(**SMALL, seed=seed) for seed in (1, 2)]
    spoil(driver, lambda all_: len(all_) == 2 and visits[0].generation.step_index == 1, RuntimeError("once"))
    driver.finish()
    assert [each.picture().seed for each in visits] == [1, 2]


def test_who_cannot_be_encoded_leaves_alone(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    encode = driver.engine.encoder.encode

    def fail_for_one(generation: Generation) -> Any:
        if generation.request.prompt == "the culprit":
            raise RuntimeError("no")
        return encode(generation)

    monkeypatch.setattr(driver.engine.encoder, "encode", fail_for_one)
    culprit, other = driver.join(**SMALL, prompt=b"the culprit"), driver.join(**SMALL)
    driver.finish()
    assert culprit.error().code == "generation_failed"
    assert other.picture()


def test_a_scheduler_that_cannot_go_on_fails_its_own_request(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    culprit, other = driver.join(**SMALL), driver.join(**SMALL, seed=2)
    driver.step()
    step, broken = NoiseSchedule.step, culprit.generation.encoded.schedule

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
    assert driver.engine.row_limits.max_rows(visits[0].generation.key) <= 5
    assert driver.engine.describe()["engine"]["max_rows"]["96x96"] <= 5
    assert len(driver.passes[-1]) <= 2


def test_a_request_that_does_not_fit_alone_is_told_so(driver: Driver) -> None:
    too_big, other = driver.join(width=192, height=192), driver.join(**SMALL)
    spoil(driver, lambda all_: too_big.generation in all_, torch.OutOfMemoryError("CUDA out of memory"))
    driver.finish()
    assert (too_big.error().code, too_big.error().retry_after_s) == ("out_of_memory", 5)
    assert other.picture()


def test_numbers_that_are_not_finite_are_an_error_and_not_a_black_picture(driver: Driver) -> None:
    broken, other = driver.join(**SMALL, preview_every=1), driver.join(**SMALL, seed=2)
    driver.step()
    broken.generation.encoded.latents[0, 0, 0, 0] = torch.nan
    driver.finish()
    assert broken.error().code == "generation_failed"
    assert "not finite" in broken.error().detail
    assert broken.generation.status is Status.FAILED
    assert other.picture().seed == 2


def test_a_listener_that_raises_is_its_own_problem(driver: Driver) -> None:
    class Raising(Recorder):
        def progress(self, step: int, num_steps: int, preview: bytes | None) -> None:
            raise RuntimeError("a bug of the listener's")

    raising, other = driver.join(Raising(), **SMALL), driver.join(**SMALL, seed=2)
    driver.finish()
    assert other.picture().seed == 2
    assert raising.picture().seed == 1


def test_a_picture_that_cannot_be_written_is_told_as_a_failure(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail_for_jpeg(image: Image.Image, *, output_format: str, output_quality: int) -> bytes:
        if output_format == "jpeg":
            raise OSError("encoder error -2")
        return b"written"

    monkeypatch.setattr("diffusion_engine.announcer.encode_picture", fail_for_jpeg)
    broken = driver.join(**SMALL, output_format=b"jpeg", num_inference_steps=1)
    other = driver.join(**SMALL, num_inference_steps=1)
    driver.finish()
    assert broken.error().code == "generation_failed"
    assert other.picture().content == b"written"


def test_a_step_that_breaks_down_is_told_to_everybody_and_the_next_ones_are_served(
    make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make_engine()
    next_rows = engine.batcher.next_rows
    breakdowns = iter([RuntimeError("a bug of ours")])

    def break_down_once() -> list[Generation]:
        for error in breakdowns:
            raise error
        return next_rows()

    monkeypatch.setattr(engine.batcher, "next_rows", break_down_once)
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
    assert refused.generation.status is Status.FAILED


# ---- leaving


def test_after_a_cancel_no_step_contains_the_request_and_its_rows_are_free(make_driver: MakeDriver) -> None:
    driver = make_driver(max_rows=2)
    gone, waiting = driver.join(**SMALL, num_inference_steps=50), driver.join(**SMALL)
    driver.step()
    gone.generation.cancel()
    driver.step()
    assert driver.passes == [[gone.generation], [waiting.generation]]
    assert gone.error().code == "cancelled"
    assert gone.generation.status is Status.CANCELLED
    assert gone.generation.encoded is None
    assert driver.engine.metrics.value("sdxl_engine_requests_total", how="cancelled") == 1
    assert driver.engine.metrics.value("sdxl_engine_cancel_to_free_seconds_total") > 0


def test_a_cancel_before_the_first_step_costs_no_step_and_no_encoding(driver: Driver, encoded_texts: list[str]) -> None:
    gone = driver.join(**SMALL)
    gone.generation.cancel()
    assert driver.step() is False
    assert gone.error().code == "cancelled"
    assert driver.passes == encoded_texts == []


def test_a_cancel_after_the_end_changes_nothing(driver: Driver) -> None:
    done = driver.join(**SMALL, num_inference_steps=1)
    driver.finish()
    done.generation.cancel()
    driver.step()
    assert done.picture()
    assert done.generation.status is Status.FINISHED


def test_a_late_request_leaves_within_a_step(driver: Driver) -> None:
    late, other = driver.join(**SMALL, timeout_s=3600.0), driver.join(**SMALL)
    driver.step()
    late.generation.arrived -= 3600.0
    driver.step()
    assert driver.passes[1] == [other.generation]
    assert (late.error().code, late.error().field) == ("deadline_exceeded", "timeout_s")


# ---- how many, and when it ends


def test_a_full_engine_refuses_at_once_and_says_when_to_come_back(make_driver: MakeDriver) -> None:
    driver = make_driver(max_requests=2)
    inside = [driver.join(**SMALL, num_inference_steps=1) for _ in range(2)]
    with pytest.raises(RequestError) as refusal:
        driver.join(**SMALL)
    assert refusal.value.code == "queue_full"
    assert refusal.value.retry_after_s is not None
    assert refusal.value.retry_after_s >= 1
    driver.finish()
    assert [each.picture().seed for each in inside] == [1, 1]
    assert driver.join(**SMALL)


def test_whoever_leaves_makes_room_however_it_ends(make_driver: MakeDriver) -> None:
    driver = make_driver(max_requests=1)
    assert visit(driver.engine, image=b"no base64!").error().code == "invalid_base64"
    cancelled = driver.join(**SMALL)
    cancelled.generation.cancel()
    driver.finish()
    broken = driver.join(**SMALL)
    driver.step()
    broken.generation.encoded.latents.fill_(torch.nan)
    driver.finish()
    assert driver.join(**SMALL)
    assert driver.engine.metrics.value("sdxl_engine_requests") == 1


class Holding(Recorder):
    """Does not come back from its first event before it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.is_held = threading.Event()
        self.release = threading.Event()

    def progress(self, step: int, num_steps: int, preview: bytes | None) -> None:
        super().progress(step, num_steps, preview)
        self.is_held.set()
        assert self.release.wait(60)


def test_an_engine_that_stops_tells_everybody_and_takes_nobody_any_more(make_engine: MakeEngine) -> None:
    engine = make_engine(max_rows=2)
    predict, is_running, may_go_on = engine.denoiser.predict, threading.Event(), threading.Event()

    def hold(generations: list[Generation]) -> Any:
        is_running.set()
        assert may_go_on.wait(60)
        return predict(generations)

    engine.denoiser.predict = hold  # type: ignore[method-assign,assignment]
    engine.start()
    visits = [visit(engine, **SMALL, num_inference_steps=50) for _ in range(6)]
    assert is_running.wait(60)
    stopping = threading.Thread(target=engine.stop)
    stopping.start()
    with pytest.raises(RequestError) as refusal:  # noqa: PT012
        while True:
            visits.append(visit(engine, **SMALL, num_inference_steps=50))
    assert refusal.value.code == "shutting_down"
    engine._readers.shutdown()
    may_go_on.set()
    stopping.join()
    assert [each.error().code for each in visits] == ["shutting_down"] * len(visits)
    assert [len(each.recorder.finals) for each in visits] == [1] * len(visits)
    assert engine.metrics.value("sdxl_engine_requests") == 0


def test_who_comes_while_it_stops_is_refused_or_told(make_engine: MakeEngine) -> None:
    engine = make_engine(max_requests=100_000)
    engine.start()
    taken: list[Recorder] = []
    refusals: list[str] = []

    def keep_coming() -> None:
        while not refusals:
            recorder = Recorder()
            try:
                visit(engine, recorder, **SMALL, image=None, num_inference_steps=1)
            except RequestError as refusal:
                refusals.append(refusal.code)
            else:
                taken.append(recorder)

    threads = [threading.Thread(target=keep_coming) for _ in range(4)]
    for thread in threads:
        thread.start()
    engine.stop()
    for thread in threads:
        thread.join()
    assert set(refusals) == {"shutting_down"}
    for recorder in taken:
        recorder.final()
    assert all(len(recorder.finals) == 1 for recorder in taken)
    assert engine.metrics.value("sdxl_engine_requests") == 0


# ---- what is told on the way


def opened(preview: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(preview))
    image.load()
    return image


def test_previews_come_as_often_as_asked_for_and_are_small_webps(driver: Driver) -> None:
    often = driver.join(width=160, height=96, num_inference_steps=6, preview_every=2)
    never = driver.join(width=160, height=96, num_inference_steps=6)
    for _ in range(6):
        driver.step()
    often.picture()
    assert never.recorder.previews == {}
    assert list(often.recorder.previews) == [2, 4]
    for preview in often.recorder.previews.values():
        assert (opened(preview).format, opened(preview).size) == ("WEBP", (40, 24))


@pytest.mark.parametrize("scheduler", ["euler", "euler_ancestral", "dpmpp_2m_karras", "lcm"])
def test_the_last_preview_looks_like_the_picture(driver: Driver, scheduler: str) -> None:
    shown = driver.join(num_inference_steps=8, preview_every=7, scheduler=scheduler.encode())
    driver.finish()
    size = (32, 32)
    picture = Image.fromarray(shown.pixels().astype(np.uint8)).resize(size, Image.Resampling.BOX)
    preview = opened(shown.recorder.previews[7]).convert("RGB")
    difference = np.abs(np.asarray(picture).astype(int) - np.asarray(preview).astype(int))
    assert difference.mean() < 25


def test_a_colour_goes_through_the_vae_and_comes_back_in_the_preview(networks: Networks) -> None:
    decoder, side = Decoder(networks), 64
    for colour in ((210, 30, 30), (40, 70, 205), (240, 238, 235), (20, 20, 20)):
        image = torch.tensor(colour, dtype=torch.float32).view(1, 3, 1, 1).expand(1, 3, side, side) / 127.5 - 1
        with torch.inference_mode():
            latents = networks.vae.encode(image).latent_dist.mode() * networks.vae.config.scaling_factor
        middle = decoder.preview(latents)[4:-4, 4:-4].mean(axis=(0, 1))
        assert np.abs(middle - np.array(colour)).max() < 30


def test_progress_that_could_not_be_told_in_time_gives_way_to_newer_but_keeps_the_preview(driver: Driver) -> None:
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
    assert slow.told[1][2] is not None  # the preview of step 3
    assert slow.steps == sorted(set(slow.steps))


def test_a_slow_listener_holds_up_no_step(driver: Driver) -> None:
    slow = Holding()
    driver.join(slow, **SMALL)
    driver.step()
    assert slow.is_held.wait(60)
    other = driver.join(**SMALL, num_inference_steps=1)
    driver.step()
    assert other.generation.status is Status.FINISHED
    slow.release.set()
    assert other.picture()


def test_a_prompt_that_is_too_long_is_told_with_what_was_left_out(driver: Driver) -> None:
    long = driver.join(**SMALL, prompt=b"a red circle, " * 24 + b"with golden stars", num_inference_steps=1)
    short = driver.join(**SMALL, prompt=b"a red circle with stars" * 4, num_inference_steps=1)
    driver.finish()
    (note,) = long.picture().info["notes"]
    assert "longer than the text encoders read" in note
    assert note.endswith("with golden stars")
    assert short.picture().info["notes"] == []


def test_a_prompt_is_not_written_to_the_log(
    driver: Driver, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    driver.join(**SMALL, prompt=b"my private matters, " * 30, num_inference_steps=1)
    driver.finish()
    captured = capfd.readouterr()
    assert "private" not in caplog.text + captured.out + captured.err


def test_the_metrics_count_what_happened(driver: Driver) -> None:
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


def test_a_request_is_counted_before_it_is_seen_to_have_ended(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the last request before a quiet hour is missing from the metrics for that hour."""
    visited, statuses = driver.join(**SMALL, num_inference_steps=1), []
    count = driver.engine.metrics.add

    def note(name: str, amount: float = 1, **labels: str) -> None:
        if name == "sdxl_engine_requests_total":
            statuses.append(visited.generation.status)
        count(name, amount, **labels)

    monkeypatch.setattr(driver.engine.metrics, "add", note)
    driver.finish()
    assert statuses == [Status.RUNNING]


def test_describe_tells_what_may_be_asked_for_and_what_answers(make_engine: MakeEngine) -> None:
    told = make_engine(max_rows=6, max_requests=9).describe()
    assert told["name"] == "demo_checkpoint"
    assert (96, 160) in told["sizes"]
    assert told["defaults"]["num_inference_steps"] == 12
    assert told["limits"]["max_inference_steps"] == 50
    assert told["schedulers"] == ("euler", "euler_ancestral", "dpmpp_2m_karras", "lcm")
    engine = told["engine"]
    assert (engine["max_requests"], engine["policy"], engine["max_rows"]["128x128"]) == (9, "first_come", 6)
    assert (engine["device"], engine["dtype"], engine["torch"]) == ("cpu", "float32", torch.__version__)


# ---- other dtypes


def test_bfloat16_gives_nearly_the_same_picture(
    make_driver: MakeDriver, driver: Driver, record_testsuite_property: Callable[[str, object], None]
) -> None:
    networks = Networks.of_pipeline(
        load_pipeline(EngineConfig(checkpoint=str(CHECKPOINT), device="cpu", dtype="bfloat16"))
    )
    half = make_driver(networks=networks)
    # Few steps: where the processor has no bfloat16 of its own, each takes ten times as long.
    values = [{**SMALL, "seed": seed, "num_inference_steps": 2} for seed in (1, 2)]
    pictures = []
    for each in (driver, half):
        visits = [each.join(**one, preview_every=1) for one in values]
        each.finish()
        pictures.append(np.stack([one.pixels() for one in visits]))
    difference = np.abs(pictures[0] - pictures[1])
    record_testsuite_property("bfloat16_mean_difference_of_255", float(difference.mean()))
    record_testsuite_property("bfloat16_largest_difference_of_255", int(difference.max()))
    assert 0 < difference.mean() < 2
    assert half.engine.describe()["engine"]["dtype"] == "bfloat16"


def test_float16_runs_where_the_processor_can(make_driver: MakeDriver, driver: Driver) -> None:
    config = EngineConfig(checkpoint=str(CHECKPOINT), device="cpu", dtype="float16")
    visits = []
    for each in (driver, make_driver(networks=Networks.of_pipeline(load_pipeline(config)))):
        visits.append(each.join(**SMALL, num_inference_steps=1, conditioning_scale=0.7))
        each.finish()
    assert np.abs(visits[0].pixels() - visits[1].pixels()).mean() < 2


def test_everything_that_is_told_is_of_the_kind_that_was_promised(running_engine: Engine) -> None:
    told = visit(running_engine, preview_every=1, **SMALL)
    assert isinstance(told.picture(), GeneratedPicture)
    assert all(num_steps == 4 for _, num_steps, _ in told.recorder.told)
    assert told.recorder.steps == sorted(set(told.recorder.steps))
    assert told.recorder.steps[-1] <= 3  # the last step is told as the picture
