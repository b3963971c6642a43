# SPDX-License-Identifier: Apache-2.0
"""Valid `/v2` requests reach Triton byte for byte, however their bodies arrive."""

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


async def test_700000_chunks_become_one_body(wire: RawConnection, triton: ScriptedTriton) -> None:
    sent = body_of({**TEXT, "data": ["a" * 700_000]})
    await wire.send(b"POST %s HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" % INFER.encode())
    for start in range(0, len(sent), 10_000):
        await wire.send(b"".join(b"1\r\n%c\r\n" % each for each in sent[start : start + 10_000]))
    await wire.send(b"0\r\n\r\n")
    assert (await wire.response())[0] == 200
    ((head, body),) = triton.requests
    assert b"content-length: %d\r\n" % len(sent) in head
    assert b"chunked" not in head
    assert body == sent


async def test_body_in_small_pieces_is_forwarded_in_order(wire: RawConnection, triton: ScriptedTriton) -> None:
    sent = body_of({**TEXT, "data": ["0123456789" * 20_000]})
    await wire.send(b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (INFER.encode(), len(sent)))
    at = 0
    for size in (1, 2, 40_000, 5, 7, 50_000, 3, len(sent)):
        await wire.send(sent[at : at + size])
        await asyncio.sleep(0.005)  # so that it arrives as a separate piece
        at += size
    assert (await wire.response())[0] == 200
    assert triton.requests[0][1] == sent


async def test_valid_requests_are_forwarded_byte_for_byte(client: httpx2.AsyncClient, triton: ScriptedTriton) -> None:
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
            response = await client.post(INFER, content=text.encode())
            assert response.status_code == 200, response.text
            assert triton.requests.pop()[1] == text.encode()
    for shape, data in (([1, 1, 2], b"abcdefgh"), ([0, 1, 4], b"")):
        body, headers = binary(shape, len(data), data=data)
        assert (await client.post(INFER, content=body, headers=headers)).status_code == 200
        assert triton.requests.pop()[1] == body
    raw = b"[" * 5_000  # one tensor's bytes, without JSON
    assert (await client.post(INFER, content=raw, headers={"Inference-Header-Content-Length": "0"})).status_code == 200
    assert triton.requests.pop()[1] == raw


async def test_changed_config_is_read_again(
    client: httpx2.AsyncClient, triton: ScriptedTriton, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (await client.post(INFER, content=body_of(TEXT))).status_code == 200
    wide = {**TEXT, "shape": [9, 1], "data": ["a"] * 9}
    assert "must be <= 8" in (await client.post(INFER, content=body_of(wide))).json()["error"]
    monkeypatch.setattr(model_configs, "_RETRY_FRESH_S", 0.0)
    monkeypatch.setitem(CONFIG, "max_batch_size", 16)
    assert (await client.post(INFER, content=body_of(wide))).status_code == 200


async def test_configured_headers_are_forwarded_to_triton(triton: ScriptedTriton) -> None:
    settings = Settings(triton_url=triton.url, v2_headers=("X-Tenant",))
    async with listening(TritonFrontend(settings=settings)) as client:
        await client.post(INFER, content=REQUEST, headers={"X-Tenant": "a", "X-Other": "b"})
    head = triton.requests[0][0]
    assert b"x-tenant: a\r\n" in head
    assert b"x-other" not in head
