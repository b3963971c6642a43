# SPDX-License-Identifier: Apache-2.0
"""The number of Tritons follows what runs and waits, as Ray counts leases."""

import asyncio
from pathlib import Path

import httpx2
import pytest

pytest.importorskip("ray", reason="the extra `cluster` is not installed")

from clusters import ray_nodes
from serving import COUNT_APP

from tests.integration.test_count_stream import until

pytestmark = [pytest.mark.integration, pytest.mark.cluster, pytest.mark.timeout(900)]


async def test_a_second_triton_comes_while_more_is_asked_than_one_takes(tmp_path: Path) -> None:
    options = {"min_replicas": 1, "max_replicas": 2, "target_in_flight": 1, "max_in_flight_per_triton": 2}
    # Room for a frontend beside the first Triton, which is alone at first.
    with ray_nodes(COUNT_APP, num_cpus=3, **options) as server:
        assert len(server.tritons()) == 1
        async with httpx2.AsyncClient(base_url=server.url, timeout=300) as caller:
            asking = [asyncio.create_task(caller.post("/count", json={"text": f"hold {tmp_path}"})) for _ in range(4)]
            # One Triton takes two; the others wait in the frontend, and run as soon as there is a second.
            await until(tmp_path, "began-*", 4)
            assert len(server.tritons()) == 2
            (tmp_path / "go").touch()
            assert [answer.status_code for answer in await asyncio.gather(*asking)] == [200] * 4
