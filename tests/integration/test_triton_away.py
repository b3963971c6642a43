# SPDX-License-Identifier: Apache-2.0
"""A real Triton that stops answering, or dies under load: what callers are told meanwhile, and that it is back."""

import re
import threading
from collections import Counter
from collections.abc import Callable

import httpx2
import pytest

from support.serving import Server

pytestmark = pytest.mark.integration

AWAY, BACK = r"Triton is away: (.*)", r"Triton answers, after"


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
    told: Counter[tuple[int, str]] = Counter()
    is_over = threading.Event()

    def ask(path: str, body: dict[str, object]) -> None:
        with httpx2.Client(base_url=server.url, timeout=60) as client:
            while not is_over.is_set():
                answer = client.post(path, json=body)
                told[answer.status_code, "" if answer.status_code == 200 else answer.json()["code"]] += 1

    declared, generated = ("/echo", {"text": "a"}), ("/models/echo/infer", {"text": ["a"]})
    callers = [threading.Thread(target=ask, args=each) for each in (declared, generated)]
    for caller in callers:
        caller.start()
    try:
        for number in range(1, 3):
            server.named("tritonserver").kill()
            server.wait_for(BACK, times=num_back + number)
            server.wait_for(r"ready again", times=number)
            for path, body in (declared, generated):
                assert server.post(path, json=body).status_code == 200
    finally:
        is_over.set()
        for caller in callers:
            caller.join(60)
    assert told.pop((200, "")) > 0
    assert set(told) <= {(503, "triton_unavailable"), (503, "triton_connection_lost"), (503, "model_not_ready")}
    assert told[503, "triton_connection_lost"] <= 2 * len(callers)  # those in flight, at each of two deaths
