# SPDX-License-Identifier: Apache-2.0
"""The engine step by step: the requests of each pass, and how often networks run."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from diffusion_engine.capabilities import Capabilities
from diffusion_engine.denoiser import Denoiser
from diffusion_engine.encoder import Encoder
from diffusion_engine.engine import Engine
from diffusion_engine.networks import Networks
from diffusion_engine.noise_scheduler import NoiseSchedulers
from diffusion_engine.preprocessing import preprocess
from diffusion_engine.request_parser import parse_request
from diffusion_engine.request_state import NullListener, RequestState, Status
from diffusion_engine.text_encoder import TextEncoder, TextKey
from drawings import row
from listening import Driver

MakeDriver = Callable[..., Driver]
MakeEngine = Callable[..., Engine]
SMALL = {"width": 96, "height": 96}


class Noting:
    """A network, or a part of one, that records the number of rows of each call."""

    def __init__(self, network: Any) -> None:
        self.network = network
        self.rows: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.network, name)

    def __call__(self, first: torch.Tensor, *arguments: Any, **options: Any) -> Any:
        self.rows.append(len(first))
        return self.network(first, *arguments, **options)


# ---- steps


def test_step_advances_its_requests_by_one_and_the_last_step_ends_them(driver: Driver) -> None:
    short, long = driver.join(**SMALL, num_inference_steps=2), driver.join(**SMALL, num_inference_steps=3)
    assert driver.step()
    assert (short.state.step_index, long.state.step_index) == (1, 1)
    assert short.state.status is long.state.status is Status.RUNNING
    driver.step()
    assert short.state.status is Status.FINISHED
    driver.step()
    assert long.state.status is Status.FINISHED
    assert driver.step() is False
    assert [len(each) for each in driver.passes] == [2, 2, 1]
    assert (short.recorder.steps, long.recorder.steps[-1]) == ([1], 2)
    assert short.picture().seed == 1


def test_new_request_joins_requests_at_later_steps(driver: Driver) -> None:
    first = driver.join(**SMALL)
    driver.step()
    second = driver.join(**SMALL, scheduler=b"lcm", guidance_scale=1.0)
    driver.step()
    assert driver.passes[-1] == [first.state, second.state]
    assert (first.state.step_index, second.state.step_index) == (2, 1)


def test_sizes_do_not_share_passes(driver: Driver) -> None:
    driver.join(**SMALL)
    driver.join(width=128, height=128)
    driver.step()
    driver.step()
    assert [[each.key[:2] for each in states] for states in driver.passes] == [[(96, 96)], [(128, 128)]]


def test_request_without_a_free_row_waits_for_one(make_driver: MakeDriver) -> None:
    driver = make_driver(max_rows=2)
    first, second = driver.join(**SMALL, num_inference_steps=1), driver.join(**SMALL, num_inference_steps=1)
    driver.step()
    assert driver.passes == [[first.state]]
    assert second.state.encoded is None  # waiting requests have no tensors
    driver.step()
    assert driver.passes[1] == [second.state]


def test_tensors_of_a_finished_request_are_freed(driver: Driver) -> None:
    done = driver.join(**SMALL, num_inference_steps=1)
    driver.finish()
    assert done.state.encoded is None
    assert len(driver.engine.step_scheduler) == 0


# ---- how often networks run


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
def test_controlnet_runs_only_in_the_control_window(
    make_driver: MakeDriver, networks: Networks, values: dict[str, Any], num_rows: list[int]
) -> None:
    controlnet = Noting(networks.controlnet)
    driver = make_driver(networks=replace(networks, controlnet=controlnet, cpu_parallel_size=1))
    driver.join(**SMALL, num_inference_steps=2, **values)
    driver.finish()
    assert controlnet.rows == num_rows


def test_controlnet_runs_only_for_rows_that_need_it(make_driver: MakeDriver, networks: Networks) -> None:
    controlnet, unet = Noting(networks.controlnet), Noting(networks.unet)
    driver = make_driver(networks=replace(networks, controlnet=controlnet, unet=unet, cpu_parallel_size=1))
    driver.join(**SMALL, conditioning_scale=0.0, num_inference_steps=2)
    driver.join(**SMALL, control_guidance_end=0.5, num_inference_steps=2)
    driver.join(**SMALL, guidance_scale=1.0, num_inference_steps=2)
    driver.finish()
    assert unet.rows == [5, 5]
    assert controlnet.rows == [3, 1]


def test_scribble_is_embedded_once(make_driver: MakeDriver, networks: Networks) -> None:
    embedding = Noting(networks.control_embedding)
    driver = make_driver(networks=replace(networks, control_embedding=embedding))
    driver.join(**SMALL)
    driver.join(**SMALL, image=None)
    driver.finish()
    assert embedding.rows == [1]


def test_recent_text_is_not_encoded_again(driver: Driver, encoded_texts: list[list[str]]) -> None:
    for prompt in (b"a red fish", b"a red fish", b"a blue star"):
        driver.join(**SMALL, prompt=prompt, negative_prompt=b"grey", num_inference_steps=1)
        driver.finish()
    assert encoded_texts == [["a red fish", "grey"], ["a blue star"]]


def test_texts_of_requests_that_start_together_are_encoded_together_and_once(
    driver: Driver, encoded_texts: list[list[str]]
) -> None:
    for prompt in (b"a red fish", b"a blue star", b"a red fish"):
        driver.join(**SMALL, prompt=prompt, negative_prompt=b"a blue star")
    driver.join(**SMALL, prompt=b"a boat", negative_prompt=b"not asked for without guidance", guidance_scale=1.0)
    driver.step()
    assert encoded_texts == [["a red fish", "a blue star", "a boat"]]


def test_text_that_cannot_be_encoded_fails_only_its_request(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    read = TextEncoder._read

    def fail_for_one(encoder: TextEncoder, keys: Sequence[TextKey]) -> Any:
        if "the culprit" in [key.text for key in keys]:
            raise RuntimeError("no")
        return read(encoder, keys)

    monkeypatch.setattr(TextEncoder, "_read", fail_for_one)
    culprit, other = driver.join(**SMALL, prompt=b"the culprit"), driver.join(**SMALL, num_inference_steps=1)
    driver.finish()
    assert culprit.error().code == "generation_failed"
    assert other.picture()


def test_text_cache_drops_the_least_recently_used_text(networks: Networks, encoded_texts: list[list[str]]) -> None:
    encoder = TextEncoder(networks, cache_size=2)
    for text in ("one", "two", "one", "three", "one", "two"):
        encoder.text(TextKey(text))
    assert encoded_texts == [["one"], ["two"], ["three"], ["two"]]


def test_new_request_never_gets_the_tensors_of_a_freed_one(networks: Networks, capabilities: Capabilities) -> None:
    """Python can give a new object the address of a freed one, so an address does not identify a request."""
    schedulers = NoiseSchedulers(networks.pipeline.scheduler.config)
    encoder, denoiser = Encoder(networks, schedulers), Denoiser(networks)

    red, yellow = (
        parse_request(row(**SMALL, prompt=prompt), capabilities)
        for prompt in (b"a red circle on a blue background", b"a yellow star on a green background")
    )
    listener = NullListener()

    def predict(state: RequestState, by: Denoiser) -> torch.Tensor:
        if state.encoded is None:
            preprocess(state, capabilities, max_pixels=1_000_000)
            state.encoded = encoder.encode(state)
        return by.predict([state])[0]

    state: RequestState | None = RequestState(request=red, listener=listener, arrived=0.0)
    predict(state, denoiser)
    state = None  # its memory is free, and the next request gets the same address
    newcomer = RequestState(request=yellow, listener=listener, arrived=0.0)
    assert torch.equal(predict(newcomer, denoiser), predict(newcomer, Denoiser(networks)))
