# SPDX-License-Identifier: Apache-2.0
"""Thousands of random requests from several threads; some are cancelled, fail or are late.

Each request ends once, and nothing of it stays in memory.
"""

import gc
import random
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import psutil
import pytest
import torch
from diffusion_engine.capabilities import SCHEDULERS, Capabilities
from diffusion_engine.engine import Engine
from diffusion_engine.errors import RequestError
from diffusion_engine.request_state import RequestState, Status
from diffusion_engine.step_scheduler import Policy
from drawings import as_file, circle
from listening import Recorder, submit

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

SIZES = ((64, 64), (96, 64), (64, 96), (96, 96))
NUM_CLIENTS = 6
MAX_REQUESTS = 48
SCRIBBLE = as_file(circle((64, 64)))
EXPECTED = {"completed", "cancelled", "deadline_exceeded", "generation_failed", "invalid_base64", "out_of_memory"}


class Clients:
    """Threads that send a number of requests in total, and cancel some of them."""

    def __init__(self, engine: Engine, num_requests: int) -> None:
        self.engine = engine
        self.num_left = num_requests
        self.lock = threading.Lock()
        self.outcomes: Counter[str] = Counter()
        self.num_rejected = 0
        self.errors: list[BaseException] = []
        self.memory: list[int] = []  # bytes, after every tenth of the requests
        self.every = num_requests // 10

    def run(self) -> None:
        threads = [threading.Thread(target=self.send, args=(seed,)) for seed in range(NUM_CLIENTS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert self.errors == []

    def send(self, seed: int) -> None:
        choose = random.Random(seed)  # noqa: S311
        try:
            while (batch := self.take(8)) > 0:
                self.send_batch(batch, choose)
        except BaseException as error:
            self.errors.append(error)
            raise

    def take(self, most: int) -> int:
        with self.lock:
            taken = min(most, self.num_left)
            if self.num_left // self.every != (self.num_left - taken) // self.every:
                self.memory.append(psutil.Process().memory_info().rss)
            self.num_left -= taken
            return taken

    def send_batch(self, num_requests: int, choose: random.Random) -> None:
        submitted = []
        while len(submitted) < num_requests:
            recorder = Recorder()
            try:
                one = submit(self.engine, recorder, preview_every=choose.choice((0, 0, 1, 2)), **random_values(choose))
            except RequestError as rejection:
                if rejection.code != "queue_full":
                    raise
                with self.lock:
                    self.num_rejected += 1
                if submitted:  # wait for the end of an own request before retrying
                    submitted[0].recorder.final()
                continue
            submitted.append(one)
            if choose.random() < 0.2:
                one.state.cancel()
        while choose.random() < 0.5:
            choose.choice(submitted).state.cancel()
        for one in submitted:
            final = one.recorder.final()
            outcome = final.code if isinstance(final, RequestError) else "completed"
            with self.lock:
                self.outcomes[outcome] += 1
            assert one.state.encoded is None
            assert one.state.status in (Status.FINISHED, Status.CANCELLED, Status.FAILED)
        assert [len(one.recorder.finals) for one in submitted] == [1] * num_requests


def random_values(choose: random.Random) -> dict[str, Any]:
    width, height = choose.choice(SIZES)
    return {
        "prompt": choose.choice((b"", b"a red circle", b"a blue star on a red background", b"fail", b"nan")),
        "image": choose.choice((SCRIBBLE, SCRIBBLE, None, b"no base64!" if choose.random() < 0.2 else SCRIBBLE)),
        "width": width,
        "height": height,
        "seed": choose.randrange(1000),
        "num_inference_steps": choose.randint(1, 4),
        "guidance_scale": choose.choice((1.0, 4.0)),
        "conditioning_scale": choose.choice((0.0, 0.7, 1.0)),
        "control_guidance_end": choose.choice((0.5, 1.0)),
        "scheduler": choose.choice(SCHEDULERS).encode(),
        "output_format": choose.choice((b"png", b"webp", b"jpeg")),
        "timeout_s": choose.choice((None, None, None, None, 1e-6, 0.05, 60.0)),
    }


def spoilt(predict: Callable[..., Any]) -> Callable[..., Any]:
    """Passes with the prompt `fail` sometimes fail; the prompt `nan` gives numbers that are not finite."""
    choose = random.Random(0)  # noqa: S311

    def run(states: list[RequestState]) -> Any:
        prompts = {each.request.prompt for each in states}
        if "fail" in prompts and choose.random() < 0.3:
            raise RuntimeError("a pass that fails")
        if choose.random() < 0.01:
            raise torch.OutOfMemoryError("CUDA out of memory")
        noise = predict(states)
        return [
            each * torch.nan if state.request.prompt == "nan" else each
            for state, each in zip(states, noise, strict=True)
        ]

    return run


@pytest.fixture
def soak(
    make_engine: Callable[..., Engine], capabilities: Capabilities, caplog: pytest.LogCaptureFixture
) -> Callable[..., Clients]:
    def run(*, num_requests: int, policy: Policy, predict: Callable[..., Any] | None = None) -> Clients:
        caplog.set_level("CRITICAL")  # thousands of intended failures
        others = generations_alive()
        defaults = replace(capabilities.defaults, width=64, height=64)
        small = replace(capabilities, sizes=SIZES, defaults=defaults)
        engine = make_engine(capabilities=small, max_requests=MAX_REQUESTS, max_rows=16, policy=policy)
        engine.denoiser.predict = spoilt(predict or engine.denoiser.predict)  # type: ignore[method-assign]
        engine.row_limits.shed = lambda *_, **__: None  # type: ignore[method-assign]
        engine.start()
        clients = Clients(engine, num_requests)
        clients.run()
        engine.stop()
        assert clients.outcomes.total() == num_requests
        assert clients.outcomes.keys() <= EXPECTED
        assert len(engine.step_scheduler) == 0
        assert engine.metrics.value("sdxl_engine_requests") == 0
        ended = {how: engine.metrics.value("sdxl_engine_requests_total", how=how) for how in ("finished", "cancelled")}
        assert ended == {"finished": clients.outcomes["completed"], "cancelled": clients.outcomes["cancelled"]}
        assert engine.output_processor._progress == {}
        clients.engine = None  # type: ignore[assignment]
        del engine
        assert [each for each in generations_alive() if each not in others] == []
        return clients

    return run


def generations_alive() -> list[RequestState]:
    gc.collect()
    return [each for each in gc.get_objects() if type(each) is RequestState]


def no_noise(states: list[RequestState]) -> list[torch.Tensor]:
    """Replaces the networks, because only the events matter here."""
    return [torch.zeros_like(each.encoded.schedule.scale(each.encoded.latents, each.step_index)) for each in states]


def test_each_of_five_thousand_requests_ends_once_and_leaves_no_memory(
    soak: Callable[..., Clients], record_testsuite_property: Callable[[str, object], None]
) -> None:
    clients = soak(num_requests=5_000, policy=Policy.FIRST_COME, predict=no_noise)
    assert clients.outcomes["completed"] > 1000
    assert clients.outcomes["cancelled"] > 250
    assert min(clients.outcomes[each] for each in ("deadline_exceeded", "generation_failed", "invalid_base64")) > 25
    # The first tenths fill caches and pools. After that, 3500 requests take less than 4 KiB each.
    growth = clients.memory[-1] - clients.memory[2]
    record_testsuite_property("soak_memory_mib", [each // 2**20 for each in clients.memory])
    record_testsuite_property("soak_outcomes", dict(clients.outcomes))
    assert growth < 3500 * 4 * 2**10


def test_shortest_remaining_ends_every_request(soak: Callable[..., Clients]) -> None:
    clients = soak(num_requests=1000, policy=Policy.SHORTEST_REMAINING, predict=no_noise)
    assert clients.outcomes["completed"] > 200


def test_every_request_ends_with_the_real_networks(soak: Callable[..., Clients]) -> None:
    clients = soak(num_requests=300, policy=Policy.FIRST_COME)
    assert clients.outcomes["completed"] > 50
