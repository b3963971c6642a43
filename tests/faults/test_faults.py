# SPDX-License-Identifier: Apache-2.0
"""Faults on purpose, under load, before a real Triton: every request has one answer, and afterwards all is well."""

import asyncio
import json
import signal
import socket
import struct
from collections.abc import Callable
from pathlib import Path

import httpx2
import psutil
import pytest
from fault_load import NUM_CALLERS, inner, load, proxy, until_ready
from serving import Server

pytestmark = pytest.mark.integration


def stubs(server: Server) -> list[psutil.Process]:
    return [each for each in server.below() if each.is_running() and each.name().startswith("triton_python_b")]


@pytest.mark.slow
async def test_killed_triton(server: Server) -> None:
    async with load(server.url) as callers:
        server.named("tritonserver").kill()
        await until_ready(server)
        await callers.until(20)
    callers.require_documented()


@pytest.mark.slow
async def test_killed_stubs(server: Server) -> None:
    async with load(server.url) as callers:
        for stub in stubs(server):
            stub.kill()
        await callers.until(20)
        await until_ready(server)
    callers.require_documented()


async def test_stopped_triton(server: Server) -> None:
    triton = server.named("tritonserver")
    async with load(server.url) as callers:
        triton.send_signal(signal.SIGSTOP)
        try:
            async with httpx2.AsyncClient(base_url=server.url, timeout=30) as client:
                assert (await client.get("/health/live")).status_code == 200
            while (await inner(server))["in_flight"] < NUM_CALLERS:
                await asyncio.sleep(0.01)
        finally:
            triton.send_signal(signal.SIGCONT)
        await callers.until(20)
    callers.require_documented()


async def test_more_work_than_there_is_room_for(server: Server, tmp_path: Path) -> None:
    waits = tmp_path / "waits"
    async with httpx2.AsyncClient(base_url=server.url, timeout=60) as client:
        asking = [asyncio.create_task(client.post("/echo", json={"text": f"wait {waits}"})) for _ in range(40)]
        try:
            await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)  # somebody is refused
        finally:
            while not all(each.done() for each in asking):  # one by one: each says anew that it waits
                waits.unlink(missing_ok=True)
                await asyncio.sleep(0.01)
    answers = [each.result() for each in asking]
    refused = [answer for answer in answers if answer.status_code != 200]
    assert len(refused) < 40
    assert {answer.status_code for answer in refused} == {503}
    assert {answer.json()["code"] for answer in refused} <= {"overloaded", "queue_full"}
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)


async def test_callers_who_leave_at_every_stage(server: Server, tmp_path: Path) -> None:
    count = json.dumps({"text": f"hold {tmp_path}"}).encode()
    large = json.dumps({"text": "echo a", "num_steps": 2000, "size": 4000}).encode()
    head = (
        b"POST /count HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nAccept: %s\r\nContent-Length: %d\r\n\r\n"
    )
    whole = head % (b"text/event-stream", len(count)) + count
    async with load(server.url) as callers:
        for said, is_running in (
            (b"", False),
            (whole[:20], False),
            (whole[:-5], False),
            (whole, False),
            (whole, True),
            (head % (b"application/json", len(count)) + count, True),
            (head % (b"text/event-stream", len(large)) + large, False),  # an answer that nobody reads
        ):
            for mark in tmp_path.glob("began-*"):
                mark.unlink()
            raw = socket.create_connection(("127.0.0.1", server.port))
            raw.sendall(said)
            while is_running and not list(tmp_path.glob("began-*")):
                await asyncio.sleep(0.01)
            # Closing with a reset, as a phone that loses its network.
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            raw.close()
        while len(list(tmp_path.glob("left-*"))) < 2:
            await asyncio.sleep(0.01)
        await callers.until(20)
    callers.require_documented()
    assert set(callers.outcomes) <= {"answered", "overloaded"}


@pytest.mark.slow
async def test_a_way_to_triton_that_drops_and_delays(server: Server, frontends: Callable[..., Server]) -> None:
    async with proxy(server.triton_url) as between:
        frontend = await asyncio.to_thread(frontends, f"127.0.0.1:{between.port}")
        async with load(frontend.url) as callers:
            for _ in range(3):
                between.drop()
                await callers.until(10)
            between.delay_s = 0.2
            await callers.until(10)
            between.is_open = False
            between.drop()
            async with httpx2.AsyncClient(base_url=frontend.url, timeout=30) as client:
                while (await client.get("/health/ready")).status_code == 200:
                    await asyncio.sleep(0.05)
            between.is_open, between.delay_s = True, 0.0
            await until_ready(frontend)
            await callers.until(20)
        callers.require_documented()
        while (await inner(frontend))["in_flight"]:
            await asyncio.sleep(0.05)


@pytest.mark.slow
async def test_a_killed_worker(server: Server, frontends: Callable[..., Server]) -> None:
    frontend = await asyncio.to_thread(frontends, server.triton_url, "--workers", "2")
    await asyncio.to_thread(frontend.wait_for, "Application startup complete", times=2)
    async with load(frontend.url) as callers:
        psutil.Process((await inner(frontend))["pid"]).kill()
        await callers.until(20)
        await asyncio.to_thread(frontend.wait_for, "Application startup complete", times=3)
        await callers.until(20)
    callers.require_documented(lost=NUM_CALLERS)  # who had it in hand cannot be told


@pytest.mark.slow
async def test_triton_killed_again_and_again(server: Server) -> None:
    async with load(server.url) as callers:
        for _ in range(5):
            server.named("tritonserver").kill()
            await until_ready(server)
            await callers.until(50)
    callers.require_documented()
