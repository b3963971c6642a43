# SPDX-License-Identifier: Apache-2.0
"""The number of Tritons follows the running and waiting requests, which Ray counts as leases."""

import asyncio
from pathlib import Path

import httpx2
import psutil
import pytest
from clusters import ray_nodes

from support.serving import COUNT_APP
from tests.integration.test_count_stream import until

pytestmark = [pytest.mark.integration, pytest.mark.cluster, pytest.mark.timeout(900)]


async def test_a_second_triton_starts_while_the_load_is_too_much_for_one(tmp_path: Path) -> None:
    options = {"min_replicas": 1, "max_replicas": 2, "target_in_flight": 1, "max_in_flight_per_triton": 2}
    # CPUs for the frontend and two Tritons; only one Triton runs at first.
    with ray_nodes(COUNT_APP, num_cpus=3, **options) as server:
        assert len(server.tritons()) == 1
        async with httpx2.AsyncClient(base_url=server.url, timeout=300) as client:
            tasks = [asyncio.create_task(client.post("/count", json={"text": f"hold {tmp_path}"})) for _ in range(4)]
            # One Triton accepts two requests; the others wait in the frontend until the second Triton runs.
            await until(tmp_path, "began-*", 4)
            assert len(server.tritons()) == 2
            (tmp_path / "go").touch()
            assert [response.status_code for response in await asyncio.gather(*tasks)] == [200] * 4


async def test_no_triton_runs_without_load_and_the_next_request_starts_one(tmp_path: Path) -> None:
    options = {"min_replicas": 0, "max_replicas": 1, "idle_s": 1, "max_in_flight_per_triton": 2}
    with ray_nodes(COUNT_APP, num_cpus=3, **options) as server:
        psutil.wait_procs(server.tritons(), timeout=120)
        assert server.tritons() == []
        async with httpx2.AsyncClient(base_url=server.url, timeout=300) as client:
            # The frontend is ready, so load balancers still send requests.
            ready = await client.get("/health/ready")
            assert (ready.status_code, ready.json()["detail"]) == (
                200,
                "No Triton is running, because there is no load. The next request starts one.",
            )
            # A request with a short timeout fails with `Retry-After`, but still starts a Triton.
            rejected = await client.post("/count", json={"text": "a"}, headers={"X-Request-Timeout": "0.2"})
            assert (rejected.status_code, rejected.json()["code"]) == (503, "cluster_not_ready")
            assert 1 < int(rejected.headers["Retry-After"]) <= 30
            # A request without one waits until the Triton runs.
            assert (await client.post("/count", json={"text": "a"})).status_code == 200
            assert len(server.tritons()) == 1
            awake = await client.get("/health/ready")
            assert (awake.status_code, "detail" in awake.json()) == (200, False)
