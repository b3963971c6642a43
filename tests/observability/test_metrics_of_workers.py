# SPDX-License-Identifier: Apache-2.0
"""With two real workers, `/metrics` of either has the counts of both, and of one that has died."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import httpx2
import pytest

from support.paths import ROOT
from support.prometheus_scrape import Scrape, parsed
from support.serving import free_port

pytestmark = pytest.mark.integration

# No request goes to Triton, so none runs.
MAIN = """
import os
from fastapi_triton import Settings, TritonFrontend

app = TritonFrontend(settings=Settings(triton_url="http://127.0.0.1:9", watch_interval_s=0.2))

@app.get("/pid")
async def pid() -> int:
    return os.getpid()
"""
COUNT = "fastapi_triton_requests_total"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    tmp_path = tmp_path_factory.mktemp("workers")
    (tmp_path / "main.py").write_text(MAIN)
    (tmp_path / "numbers").mkdir()
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "uvicorn", "main:app", "--workers", "2", "--port", str(port)],
        cwd=tmp_path,
        env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "numbers"), "PYTHONPATH": str(ROOT / "src")},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        for _ in range(2):
            next(line for line in process.stderr if "Application startup complete" in line)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.communicate(timeout=30)


def pid_of_a_worker(url: str) -> int:
    return int(httpx2.get(f"{url}/pid").text)  # a new connection, which either worker accepts


def counted(url: str, count: float) -> Scrape:
    """The metrics when all workers together have counted `count` requests."""
    while True:
        numbers = parsed(httpx2.get(f"{url}/metrics").text)
        found = numbers.of(COUNT, route="/pid", status="200")
        assert found <= count
        if found == count:
            return numbers


def test_metrics_of_either_worker_have_the_counts_of_both(url: str) -> None:
    workers: set[int] = set()
    num_requests = 0
    while len(workers) < 2:
        workers.add(pid_of_a_worker(url))
        num_requests += 1
    numbers = counted(url, num_requests)
    # Each worker writes its gauges once a second, and detects by itself that Triton is unreachable.
    while numbers["fastapi_triton_open_breakers"] < 2:
        time.sleep(0.1)
        numbers = parsed(httpx2.get(f"{url}/metrics").text)
    assert numbers["fastapi_triton_open_breakers"] == 2
    assert numbers.values("process_resident_memory_bytes", "pid") == {str(each) for each in workers}
    assert numbers["fastapi_triton_info"] == 1
    assert numbers["process_cpu_seconds_total"] > 0


@pytest.mark.slow
def test_the_counts_of_a_dead_worker_stay_and_its_gauges_are_removed(url: str) -> None:
    numbers = parsed(httpx2.get(f"{url}/metrics").text)
    num_requests = numbers.of(COUNT, route="/pid", status="200")
    workers = {int(each) for each in numbers.values("process_resident_memory_bytes", "pid")}
    killed = workers.pop()
    os.kill(killed, signal.SIGKILL)
    while len(workers) < 2:  # uvicorn starts another
        try:
            workers.add(pid_of_a_worker(url))
        except httpx2.TransportError:
            continue  # a connection to the killed worker
        num_requests += 1
    numbers = counted(url, num_requests)
    assert str(killed) not in numbers.values("process_resident_memory_bytes", "pid")
