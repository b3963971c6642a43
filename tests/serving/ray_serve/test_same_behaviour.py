# SPDX-License-Identifier: Apache-2.0
"""Clients see the same of a cluster as of one machine: these tests run against both."""

import asyncio
from pathlib import Path

import httpx2
import psutil
import pytest
from clusters import ClusterServer

from tests.integration.test_count_stream import (
    caller,  # noqa: F401
    test_describe_and_readiness_use_the_stream_model,  # noqa: F401
    test_disconnect_from_a_stream_cancels_the_request_in_the_model,  # noqa: F401
    test_error_has_a_status_before_the_first_event_and_is_an_event_after_it,  # noqa: F401
    test_last_event_equals_the_plain_response,  # noqa: F401
    test_megabytes_pass_the_frontend_intact,  # noqa: F401
    until,
)

pytestmark = [pytest.mark.integration, pytest.mark.cluster, pytest.mark.timeout(600)]


async def test_a_disconnect_cancels_a_plain_request(
    caller: httpx2.AsyncClient,  # noqa: F811
    tmp_path: Path,
) -> None:
    """The same as on one machine, except for the log: Ray's proxy notices the disconnect."""
    task = asyncio.create_task(
        caller.post("/count", json={"text": f"hold {tmp_path}"}, headers={"X-Request-ID": "gone-plain"})
    )
    await until(tmp_path, "began-gone-plain")
    task.cancel()
    await until(tmp_path, "left-gone-plain")


async def test_requests_that_run_at_once_are_spread_over_the_tritons(
    count_server: ClusterServer,
    caller: httpx2.AsyncClient,  # noqa: F811
    tmp_path: Path,
) -> None:
    tasks = [
        asyncio.create_task(
            caller.post("/count", json={"text": f"hold {tmp_path}"}, headers={"X-Request-ID": str(each)})
        )
        for each in range(12)
    ]
    await until(tmp_path, "began-*", 12)
    # Each Triton has its own instance of the model. A Triton that holds requests has connections from the frontend.
    assert len([each for each in count_server.tritons() if count_established(each) > 1]) == 2
    (tmp_path / "go").touch()
    assert {response.status_code for response in await asyncio.gather(*tasks)} == {200}


def count_established(triton: psutil.Process) -> int:
    return sum(each.status == psutil.CONN_ESTABLISHED for each in triton.net_connections(kind="tcp"))


def test_a_request_id_goes_to_the_model_and_comes_back_once(count_server: ClusterServer) -> None:
    response = count_server.post("/count", json={"text": "echo a"}, headers={"X-Request-ID": "mine"})
    assert response.json()["info"]["request_id"] == "mine"
    assert response.headers.get_list("X-Request-ID") == ["mine"]
    assert len(count_server.get("/health/live").headers.get_list("X-Request-ID")) == 1


def test_an_invalid_request_names_its_fields(count_server: ClusterServer) -> None:
    refused = count_server.post("/count", json={"text": 5, "colour": "red"})
    assert refused.status_code == 422
    assert {each["pointer"] for each in refused.json()["errors"]} == {"#/text", "#/colour"}
