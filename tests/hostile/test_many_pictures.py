# SPDX-License-Identifier: Apache-2.0
"""Thousands of short pictures through Triton, while clients connect and disconnect: Triton survives.

The environment variable `NUM_PICTURES` sets the number; the default is 2,000.
"""

import http.client
import itertools
import json
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from support.received_events import events_in
from support.scribble_app import base64_picture
from support.serving import Server

NUM_PICTURES = int(os.environ.get("NUM_PICTURES", "2000"))
NUM_CLIENTS = 16
PATIENCE_S = 120.0
STREAM = "/v2/models/sdxl_scribble_controlnet_stream/generate_stream"
WHOLE = "/v2/models/sdxl_scribble_controlnet/generate"
SCRIBBLE = base64_picture()


class Crowd:
    """Clients of Triton itself. Each sends one request after another, until one fails."""

    def __init__(self, address: str, num_pictures: int) -> None:
        self.counts: Counter[str] = Counter()
        self._address = address
        self._numbers = iter(range(num_pictures))
        self._lock = threading.Lock()

    def run(self) -> None:
        with ThreadPoolExecutor(NUM_CLIENTS) as threads:
            for client in [threads.submit(self._make_requests) for _ in range(NUM_CLIENTS)]:
                client.result()

    def _make_requests(self) -> None:
        while (number := self._next_number()) is not None:
            try:
                outcome = self.request(number)
            except (OSError, http.client.HTTPException):
                outcome = "broken"
            with self._lock:
                self.counts[outcome] += 1

    def _next_number(self) -> int | None:
        with self._lock:
            return None if self.counts["broken"] else next(self._numbers, None)

    def request(self, number: int) -> str:
        """Every fourth request goes to the public model, the others stream. Every third disconnects before the end."""
        is_stream, leaves = number % 4 != 3, number % 3 == 0
        connection = http.client.HTTPConnection(self._address, timeout=PATIENCE_S)
        try:
            connection.request("POST", STREAM if is_stream else WHOLE, json.dumps(inputs(number)))
            if leaves and not is_stream:
                return "left"
            response = connection.getresponse()
            assert response.status == 200, response.read()
            if not is_stream:
                return "made" if "generated_image" in json.loads(response.read()) else "failed"
            seen = itertools.islice(events(response), number // 3 % 3 if leaves else None)
            if "completed" in [event["event"] for event in seen]:
                return "made"
            return "left" if leaves else "failed"
        finally:
            connection.close()


def inputs(number: int) -> dict[str, Any]:
    return {
        "prompt": f"a circle {number % 5}",
        "image": SCRIBBLE,
        "conditioning_scale": 1.0,
        "seed": number,
        "num_inference_steps": 1 + number % 3,
        "guidance_scale": 0.0,
        "width": 96,
        "height": 96,
        "output_format": "jpeg",
    }


def events(response: http.client.HTTPResponse) -> Iterator[dict[str, Any]]:
    return (event.data for event in events_in(line.decode() for line in response))  # Triton's parameters, without names


@pytest.mark.integration
@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_triton_survives_thousands_of_short_pictures(scribble_server: Server) -> None:
    triton = scribble_server.named("tritonserver")
    crowd, began = Crowd(scribble_server.triton_url, NUM_PICTURES), time.monotonic()
    crowd.run()
    seconds = time.monotonic() - began
    print(f"{dict(crowd.counts)} in {seconds:.0f} s, {NUM_PICTURES / seconds:.1f} pictures/s")  # noqa: T201
    assert "Signal (" not in scribble_server.log
    assert set(crowd.counts) == {"made", "left"}
    assert crowd.counts.total() == NUM_PICTURES
    assert scribble_server.named("tritonserver") == triton
    assert crowd.request(1) == "made"
