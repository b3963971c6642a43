# SPDX-License-Identifier: Apache-2.0
"""A real Triton that is suspended, or dies under load: errors while it is away, and success when it is back."""

import re
import threading
import time
from collections.abc import Callable
from functools import partial

import httpx2
import pytest

from support.serving import Server

pytestmark = pytest.mark.integration

AWAY, BACK = r"Triton at \S+ is away, so requests fail: (.*)", r"Triton at \S+ responds after"
PATHS: dict[str, dict[str, object]] = {"/echo": {"text": "a"}, "/models/echo/infer": {"text": ["a"]}}


def test_requests_fail_at_once_while_triton_is_suspended(echo_server: Server) -> None:
    times, times_back = (len(re.findall(each, echo_server.log)) + 1 for each in (AWAY, BACK))
    triton = echo_server.named("tritonserver")
    responses: list[httpx2.Response] = []
    waiting = threading.Thread(target=lambda: responses.append(echo_server.post("/echo", json={"text": "in flight"})))
    triton.suspend()
    try:
        waiting.start()
        assert "has not responded" in echo_server.wait_for(AWAY, times=times)[1]
        for response in (
            echo_server.post("/echo", json={"text": "a"}),
            echo_server.post("/models/echo/infer", json={"text": ["a"]}),
            echo_server.get("/v2/models/echo/config"),
        ):
            assert (response.status_code, response.json()["code"]) == (503, "triton_unavailable")
            assert int(response.headers["retry-after"]) >= 1
        (state,) = echo_server.get("/health/ready").json()["endpoints"]
        assert "has not responded" in state["detail"]
        assert not responses  # the request in flight still waits: Triton may respond yet
    finally:
        triton.resume()
    echo_server.wait_for(BACK, times=times_back)
    waiting.join(60)
    assert (responses[0].status_code, responses[0].json()) == (200, {"text": "in flight"})
    assert echo_server.get("/health/ready").status_code == 200
    assert echo_server.post("/echo", json={"text": "a"}).status_code == 200


@pytest.mark.slow
def test_death_of_triton_under_load_fails_no_later_request(
    echo_servers: Callable[..., Server],
) -> None:
    server = echo_servers("--max-in-flight", "8").wait_until_ready()
    num_back = len(re.findall(BACK, server.log))  # once at the start
    responses: list[tuple[str, float, int, str]] = []  # path, time of the request, status, code
    is_new = threading.Condition()
    is_finished = threading.Event()

    def send_requests(path: str, body: dict[str, object]) -> None:
        with httpx2.Client(base_url=server.url, timeout=60) as client:
            while not is_finished.is_set():
                sent_at = time.monotonic()
                response = client.post(path, json=body)
                code = "" if response.status_code == 200 else response.json()["code"]
                with is_new:
                    responses.append((path, sent_at, response.status_code, code))
                    is_new.notify_all()

    def first_after(path: str, then: float) -> tuple[int, str] | None:
        return next(((status, code) for each, at, status, code in responses if each == path and at > then), None)

    # One client for each path, because Triton's queue for this model holds two.
    clients = [threading.Thread(target=send_requests, args=each) for each in PATHS.items()]
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
        is_finished.set()
        for client in clients:
            client.join(60)
    outcomes = {(status, code) for _, _, status, code in responses}
    assert outcomes <= {
        (200, ""),
        (503, "triton_unavailable"),
        (503, "triton_connection_lost"),
        (503, "model_not_ready"),
    }
