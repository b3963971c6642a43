# SPDX-License-Identifier: Apache-2.0
"""`/health/live` reports that the process responds, `/health/ready` that the models of all endpoints are ready."""

from dataclasses import replace

import httpx2

from fastapi_triton import TritonFrontend
from fastapi_triton.testing import FakeTriton
from support.scribble_app import MODEL, PATH


async def test_live_and_ready_while_triton_and_its_models_work(client: httpx2.AsyncClient) -> None:
    assert (await client.get("/health/live")).json() == {"status": "live"}
    response = await client.get("/health/ready")
    assert response.status_code == 200
    assert response.json() == {"status": "ready", "endpoints": [{"path": PATH, "model": MODEL, "ready": True}]}


async def test_live_but_not_ready_without_triton(client: httpx2.AsyncClient, triton: FakeTriton) -> None:
    triton.is_running = False
    assert (await client.get("/health/live")).status_code == 200
    response = await client.get("/health/ready")
    assert response.status_code == 503
    assert response.json()["endpoints"][0]["code"] == "triton_unavailable"
    assert response.headers["retry-after"] == "1"


async def test_not_ready_while_the_model_loads_and_ready_afterwards(
    client: httpx2.AsyncClient, triton: FakeTriton
) -> None:
    triton.models[MODEL].is_ready = False
    response = await client.get("/health/ready")
    assert response.status_code == 503
    assert response.json()["endpoints"][0]["code"] == "model_not_ready"
    triton.models[MODEL].is_ready = True
    assert (await client.get("/health/ready")).status_code == 200


async def test_a_broken_contract_is_unready_with_the_mismatches(client: httpx2.AsyncClient, triton: FakeTriton) -> None:
    config = triton.models[MODEL].config
    triton.models[MODEL].config = replace(config, outputs=config.outputs[:1])
    response = await client.get("/health/ready")
    assert response.status_code == 503
    state = response.json()["endpoints"][0]
    assert state["code"] == "contract_mismatch"
    assert "`ScribbleResponse.seed`" in state["detail"]
    assert "`ScribbleResponse.info`" in state["detail"]


class SleepingTriton(FakeTriton):
    """Like a cluster without a running Triton for lack of load."""

    is_asleep = True


async def test_ready_with_a_note_while_no_triton_runs_for_lack_of_load() -> None:
    triton = SleepingTriton()
    async with httpx2.AsyncClient(
        transport=httpx2.ASGITransport(app=TritonFrontend(triton=triton)), base_url="http://a"
    ) as http:
        response = await http.get("/health/ready")
        assert (response.status_code, "The next request starts one." in response.json()["detail"]) == (200, True)
        triton.is_asleep = False
        assert "detail" not in (await http.get("/health/ready")).json()
