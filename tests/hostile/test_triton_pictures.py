# SPDX-License-Identifier: Apache-2.0
"""Hostile pictures through a real Triton: its process stays small and other clients are served."""

import base64
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest
from PIL import Image

from support.picture_bombs import BOMBS, as_file, drawing, narrow_png, progressive_jpeg
from support.received_events import events_in
from support.scribble_app import PATH
from support.serving import Server

pytestmark = [pytest.mark.integration, pytest.mark.slow]
STREAM = "/v2/models/sdxl_scribble_controlnet_stream/generate_stream"
MIB = 1024 * 1024
QUICK = {"prompt": "x", "num_inference_steps": 1}


@pytest.fixture
def stub(scribble_server: Server) -> psutil.Process:
    """The process in which Triton runs the engine."""
    (found,) = (each for each in scribble_server.below() if each.is_running() and is_engine(each))
    return found


def is_engine(process: psutil.Process) -> bool:
    arguments = process.cmdline()
    return bool(arguments) and "python_backend_stub" in arguments[0] and any("_stream" in each for each in arguments)


def decoders_of(stub: psutil.Process) -> list[psutil.Process]:
    return [each for each in stub.children() if any("picture_decoder_process" in part for part in each.cmdline())]


def peak_bytes(process: psutil.Process) -> int:
    """The peak of its resident memory."""
    for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmHWM")


def ask_triton(server: Server, content: bytes) -> dict[str, Any]:
    """The last event of a request that is sent to Triton directly."""
    body = {**QUICK, "image": base64.b64encode(content).decode()}
    response = httpx2.post(f"http://{server.triton_url}{STREAM}", json=body, timeout=120)
    last: dict[str, Any] = list(events_in(response.text.splitlines()))[-1].data
    return last


def draw(server: Server, content: bytes, timeout_s: float | None = None) -> httpx2.Response:
    headers = {} if timeout_s is None else {"X-Request-Timeout": str(timeout_s)}
    return server.post(PATH, json={**QUICK, "image": base64.b64encode(content).decode()}, headers=headers)


@pytest.fixture
def frozen(stub: psutil.Process) -> Iterator[list[psutil.Process]]:
    """Suspended decoders, as if each had a picture that takes forever."""
    processes = decoders_of(stub)
    assert len(processes) == 2
    for each in processes:
        each.suspend()
    yield processes
    for each in processes:
        if each.is_running():
            each.resume()


@pytest.mark.parametrize(
    "name", ["a PNG of 1 x 5,000,000", "a JPEG of 30,000 scans", "a GIF of 1,200 frames", "a WebP with a vast canvas"]
)
def test_engine_rejects_a_bomb_and_does_not_grow(scribble_server: Server, stub: psutil.Process, name: str) -> None:
    assert draw(scribble_server, as_file(drawing())).status_code == 200
    before = peak_bytes(stub)
    make, code = BOMBS[name]
    for _ in range(3):
        assert code in ask_triton(scribble_server, make())["error"]
    assert peak_bytes(stub) - before < 64 * MIB
    assert draw(scribble_server, as_file(drawing())).status_code == 200


def test_two_scan_bombs_do_not_block_other_requests(scribble_server: Server) -> None:
    bomb = progressive_jpeg(3_472, 2_416, 30_000)
    refusals: list[str] = []
    threads = [
        threading.Thread(target=lambda: refusals.append(ask_triton(scribble_server, bomb)["error"])) for _ in range(2)
    ]
    for each in threads:
        each.start()
    assert draw(scribble_server, as_file(drawing())).status_code == 200
    for each in threads:
        each.join()
    assert len(refusals) == 2
    assert all("image_too_complex" in each for each in refusals)


def test_deadline_frees_stuck_decoders(
    scribble_server: Server, stub: psutil.Process, frozen: list[psutil.Process]
) -> None:
    responses: list[httpx2.Response] = []
    threads = [
        threading.Thread(target=lambda: responses.append(draw(scribble_server, as_file(drawing()), timeout_s=1)))
        for _ in range(2)
    ]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert [each.status_code for each in responses] == [504, 504]
    assert draw(scribble_server, as_file(drawing())).status_code == 200
    assert psutil.wait_procs(frozen, timeout=60)[1] == []
    assert draw(scribble_server, as_file(drawing())).status_code == 200
    assert scribble_server.get("/health/ready").status_code == 200


def test_disconnect_frees_stuck_decoders(scribble_server: Server, frozen: list[psutil.Process]) -> None:
    body = {**QUICK, "image": base64.b64encode(as_file(drawing())).decode()}
    for _ in range(2):
        with pytest.raises(httpx2.TimeoutException):
            httpx2.post(scribble_server.url + PATH, json=body, timeout=1)
    assert draw(scribble_server, as_file(drawing())).status_code == 200
    assert psutil.wait_procs(frozen, timeout=60)[1] == []


def test_largest_pictures_take_memory_only_in_decoders(scribble_server: Server, stub: psutil.Process) -> None:
    gradient = Image.linear_gradient("L").resize((7000, 7000))
    assert draw(scribble_server, as_file(drawing())).status_code == 200
    before = peak_bytes(stub)
    for picture in (gradient, Image.merge("RGB", (gradient, gradient.rotate(90), gradient.rotate(180)))):
        assert draw(scribble_server, as_file(picture, "WEBP" if picture.mode == "L" else "PNG")).status_code == 200
    assert peak_bytes(stub) - before < 128 * MIB
    assert all(peak_bytes(each) < 1400 * MIB for each in decoders_of(stub))


def test_narrow_picture_within_the_limits_is_accepted(scribble_server: Server, stub: psutil.Process) -> None:
    before = peak_bytes(stub)
    response = draw(scribble_server, narrow_png(16_000, 160))
    assert response.status_code == 200
    assert peak_bytes(stub) - before < 64 * MIB


def test_describe_reports_the_number_of_decoders(scribble_server: Server) -> None:
    description = scribble_server.get(f"{PATH}/describe").json()
    assert description["engine"]["decoders"]["of"] == 2
    assert "unavailable" not in description
