# SPDX-License-Identifier: Apache-2.0
"""Valid `/v2` requests reach Triton byte for byte, however their bodies come."""

import asyncio
import json

import httpx2
import pytest

from fastapi_triton import Settings, TritonFrontend
from fastapi_triton.app.triton_proxy import model_configs
from support.app_on_socket import listening
from support.raw_connection import RawConnection
from support.scripted_triton import INFER, REQUEST, ScriptedTriton
from support.v2_requests import CONFIG, TEXT, X, Y, binary, body_of


async def test_seven_hundred_thousand_chunks_are_one_body(wire: RawConnection, triton: ScriptedTriton) -> None:
    told = body_of({**TEXT, "data": ["a" * 700_000]})
    await wire.send(b"POST %s HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" % INFER.encode())
    for start in range(0, len(told), 10_000):
        await wire.send(b"".join(b"1\r\n%c\r\n" % each for each in told[start : start + 10_000]))
    await wire.send(b"0\r\n\r\n")
    assert (await wire.response())[0] == 200
    ((head, body),) = triton.requests
    assert b"content-length: %d\r\n" % len(told) in head
    assert b"chunked" not in head
    assert body == told


async def test_a_body_that_trickles_in_passes_in_order(wire: RawConnection, triton: ScriptedTriton) -> None:
    told = body_of({**TEXT, "data": ["0123456789" * 20_000]})
    await wire.send(b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (INFER.encode(), len(told)))
    at = 0
    for size in (1, 2, 40_000, 5, 7, 50_000, 3, len(told)):
        await wire.send(told[at : at + size])
        await asyncio.sleep(0.005)  # so that it comes as a piece of its own
        at += size
    assert (await wire.response())[0] == 200
    assert triton.requests[0][1] == told


async def test_valid_requests_pass_byte_for_byte(client: httpx2.AsyncClient, triton: ScriptedTriton) -> None:
    numbers = {"name": "x", "shape": [2, 100, 300], "datatype": "FP32", "data": [[[0.5] * 300] * 100] * 2}
    for members in (
        {"inputs": [TEXT]},
        {"inputs": [TEXT, X, Y], "outputs": [{"name": "y", "parameters": {"classification": 1}}]},
        {"inputs": [{**X, "shape": [0, 4, 0], "data": []}], "parameters": {"sequence_id": "a", "custom": 1.5}},
        {"inputs": [TEXT], "parameters": {"sequence_id": 2**64 - 1, "priority": 2**64 - 1, "timeout": 2**64 - 1}},
        {"inputs": [numbers], "id": "x" * 5_000, "outputs": None},
        {"inputs": [{**TEXT, "data": ['\\" ä [{' * 5_000]}]},
        {"inputs": [{**TEXT, "shape": [8, 1], "data": ["a [", "]"] * 4}]},
        {"inputs": [{"name": "unknown", "shape": [1], "datatype": "BOOL", "data": [True]}]},
    ):
        for text in (json.dumps(members), json.dumps(members, indent=1, ensure_ascii=False)):
            answer = await client.post(INFER, content=text.encode())
            assert answer.status_code == 200, answer.text
            assert triton.requests.pop()[1] == text.encode()
    for shape, data in (([1, 1, 2], b"abcdefgh"), ([0, 1, 4], b"")):
        body, headers = binary(shape, len(data), data=data)
        assert (await client.post(INFER, content=body, headers=headers)).status_code == 200
        assert triton.requests.pop()[1] == body
    raw = b"[" * 5_000  # one tensor's bytes, without JSON
    assert (await client.post(INFER, content=raw, headers={"Inference-Header-Content-Length": "0"})).status_code == 200
    assert triton.requests.pop()[1] == raw


async def test_a_config_that_has_changed_is_read_again(
    client: httpx2.AsyncClient, triton: ScriptedTriton, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (await client.post(INFER, content=body_of(TEXT))).status_code == 200
    wide = {**TEXT, "shape": [9, 1], "data": ["a"] * 9}
    assert "must be <= 8" in (await client.post(INFER, content=body_of(wide))).json()["error"]
    monkeypatch.setattr(model_configs, "_RETRY_FRESH_S", 0.0)
    monkeypatch.setitem(CONFIG, "max_batch_size", 16)
    assert (await client.post(INFER, content=body_of(wide))).status_code == 200


async def test_headers_that_triton_forwards_can_be_named(triton: ScriptedTriton) -> None:
    settings = Settings(triton_url=triton.url, v2_headers=("X-Tenant",))
    async with listening(TritonFrontend(settings=settings)) as client:
        await client.post(INFER, content=REQUEST, headers={"X-Tenant": "a", "X-Other": "b"})
    head = triton.requests[0][0]
    assert b"x-tenant: a\r\n" in head
    assert b"x-other" not in head
