# SPDX-License-Identifier: Apache-2.0
"""A real Triton that stops answering, or dies under load: what callers are told meanwhile, and that it is back."""

import re
import threading
import time
from collections.abc import Callable
from functools import partial

import httpx2
import pytest

from support.serving import Server

pytestmark = pytest.mark.integration

AWAY, BACK = r"Triton is away: (.*)", r"Triton is back after"
PATHS: dict[str, dict[str, object]] = {"/echo": {"text": "a"}, "/models/echo/infer": {"text": ["a"]}}


def test_a_stopped_triton_is_noticed_and_whoever_asks_is_told_at_once(echo_server: Server) -> None:
    times, times_back = (len(re.findall(each, echo_server.log)) + 1 for each in (AWAY, BACK))
    triton = echo_server.named("tritonserver")
    answers: list[httpx2.Response] = []
    waiting = threading.Thread(target=lambda: answers.append(echo_server.post("/echo", json={"text": "in flight"})))
    triton.suspend()
    try:
        waiting.start()
        assert "has not answered anything" in echo_server.wait_for(AWAY, times=times)[1]
        for answer in (
            echo_server.post("/echo", json={"text": "a"}),
            echo_server.post("/models/echo/infer", json={"text": ["a"]}),
            echo_server.get("/v2/models/echo/config"),
        ):
            assert (answer.status_code, answer.json()["code"]) == (503, "triton_unavailable")
            assert int(answer.headers["retry-after"]) >= 1
        (state,) = echo_server.get("/health/ready").json()["endpoints"]
        assert "has not answered anything" in state["detail"]
        assert not answers  # who was in flight waits on: it may still be answered
    finally:
        triton.resume()
    echo_server.wait_for(BACK, times=times_back)
    waiting.join(60)
    assert (answers[0].status_code, answers[0].json()) == (200, {"text": "in flight"})
    assert echo_server.get("/health/ready").status_code == 200
    assert echo_server.post("/echo", json={"text": "a"}).status_code == 200


@pytest.mark.slow
def test_a_triton_that_dies_under_load_costs_those_in_flight_and_nobody_later(
    echo_servers: Callable[..., Server],
) -> None:
    server = echo_servers("--max-in-flight", "8").wait_until_ready()
    num_back = len(re.findall(BACK, server.log))  # once it was not there yet
    answers: list[tuple[str, float, int, str]] = []  # of each: path, when it was asked, status, code
    is_new = threading.Condition()
    is_over = threading.Event()

    def ask(path: str, body: dict[str, object]) -> None:
        with httpx2.Client(base_url=server.url, timeout=60) as client:
            while not is_over.is_set():
                asked_at = time.monotonic()
                answer = client.post(path, json=body)
                code = "" if answer.status_code == 200 else answer.json()["code"]
                with is_new:
                    answers.append((path, asked_at, answer.status_code, code))
                    is_new.notify_all()

    def first_after(path: str, then: float) -> tuple[int, str] | None:
        return next(((status, code) for each, at, status, code in answers if each == path and at > then), None)

    # One client each, since Triton's queue for this model holds two.
    clients = [threading.Thread(target=ask, args=each) for each in PATHS.items()]
    for client in clients:
        client.start()
    try:
        for number in range(1, 3):
            server.named("tritonserver").kill()
            server.wait_for(BACK, times=num_back + number)
            server.wait_for(r"ready again", times=number)
            ready_at = time.monotonic()
            for path in PATHS:
                with is_new:
                    assert is_new.wait_for(partial(first_after, path, ready_at), timeout=60)
                assert first_after(path, ready_at) == (200, "")
    finally:
        is_over.set()
        for client in clients:
            client.join(60)
    told = {(status, code) for _, _, status, code in answers}
    assert told <= {
        (200, ""),
        (503, "triton_unavailable"),
        (503, "triton_connection_lost"),
        (503, "model_not_ready"),
    }
