# SPDX-License-Identifier: Apache-2.0
"""The frontend's benchmark: its payloads, ratios within a round, targets, and wrong responses."""

import asyncio
import io
from pathlib import Path

import orjson
import pybase64
import pytest
from PIL import Image

from benchmarks.common.closed_loop import BadResponseError, Loop, drive
from benchmarks.common.ratio import Ratio
from benchmarks.frontend.apps.ours import EchoResponse
from benchmarks.frontend.frontend_page import Page
from benchmarks.frontend.frontend_tables import cpu, ratio, target_table
from benchmarks.frontend.payload import SIZES, Payload
from benchmarks.frontend.peers import NAIVE, NGINX, OURS
from benchmarks.frontend.sample import Sample, Workload
from fastapi_triton.endpoints.declared import contract
from fastapi_triton.triton import config_text
from fastapi_triton.triton.model_config import from_server
from main import ScribbleRequest

MODELS = Path(__file__).parents[2] / "benchmarks" / "frontend" / "models"

WORKLOAD = Workload("16K", 8)


def sample(number: int, peer: str, cpu_ms: float) -> Sample:
    return Sample(
        round=number,
        peer=peer,
        size=WORKLOAD.size,
        concurrency=WORKLOAD.concurrency,
        num_answers=10,
        seconds=1.0,
        cpu_ms=cpu_ms,
        triton_cpu_ms=1.0,
        caller_cpu_ms=1.0,
        p50_ms=1.0,
        p95_ms=1.0,
    )


def test_payload_is_picture_of_exactly_its_size() -> None:
    for size in SIZES.values():
        image = orjson.loads(Payload.of(size).json_body)["image"]
        assert len(image) == size
        with Image.open(io.BytesIO(pybase64.b64decode(image))) as picture:
            assert picture.size == (1024, 1024)


def test_ratios_are_computed_within_round() -> None:
    samples = [sample(0, OURS, 4), sample(0, NGINX, 2), sample(1, OURS, 9), sample(1, NGINX, 3), sample(2, OURS, 99)]
    assert ratio(samples, WORKLOAD, OURS, NGINX, cpu) == Ratio(2.5, 2.0, 3.0)


def test_target_table_marks_missed_targets() -> None:
    rows = list(target_table([sample(0, OURS, 5), sample(0, NGINX, 1), sample(0, NAIVE, 20)]))[2:]
    assert [(WORKLOAD.name in row, "**missed**" in row) for row in rows] == [(True, True), (True, False)]


def test_rounds_are_added_to_existing_page(tmp_path: Path) -> None:
    page = Page.open(tmp_path, "trial", is_new=True)
    page.samples.append(sample(0, OURS, 1))
    page.write()
    assert Page.open(tmp_path, "trial", is_new=False).num_rounds == 1
    assert Page.open(tmp_path, "trial", is_new=True).num_rounds == 0


@pytest.mark.parametrize("bodies", [[b"no"], [b"yes", b"longer"]], ids=["first is wrong", "later one is longer"])
async def test_wrong_response_fails_measurement(bodies: list[bytes]) -> None:
    left = iter(bodies)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(100):
            body = next(left, b"yes")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        loop = Loop(b"GET / HTTP/1.1\r\n\r\n", lambda body: body == b"yes")
        with pytest.raises(BadResponseError):
            await drive(loop, server.sockets[0].getsockname()[1], concurrency=1, seconds=30)


def test_echo_model_accepts_request_of_measured_endpoint() -> None:
    """Otherwise every measured request would be an error."""
    config = from_server({"name": "scribble_echo", **config_text.read(MODELS / "scribble_echo" / "config.pbtxt")})
    assert contract.mismatches(ScribbleRequest, EchoResponse, config) == []
