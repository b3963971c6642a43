# SPDX-License-Identifier: Apache-2.0
"""Faults on purpose, under load, before a real Triton: every request has one answer, and afterwards all is well."""

import asyncio
import json
import signal
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx2
import psutil
import pytest

from support.fault_load import NUM_CALLERS, inner, load, proxy, until_ready
from support.prometheus_scrape import scrape
from support.serving import Server

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


def outcome(answer: httpx2.Response) -> str:
    """The one thing that a caller is told: a code, or `answered`. A stream has one end."""
    if not answer.headers["content-type"].startswith("text/event-stream"):
        return "answered" if answer.status_code == 200 else str(answer.json()["code"])
    assert answer.text.count("event: error") + answer.text.count("event: completed") == 1, answer.text
    return "answered" if "event: completed" in answer.text else answer.text.partition('"code":"')[2].partition('"')[0]


def holding(client: httpx2.AsyncClient, folder: Path, request_id: str, **headers: str) -> asyncio.Task[httpx2.Response]:
    """A request that the model holds until `folder` has a file `go`."""
    headers = {"X-Request-ID": request_id} | {name.replace("_", "-"): value for name, value in headers.items()}
    return asyncio.create_task(client.post("/count", json={"text": f"hold {folder}"}, headers=headers))


def marks(folder: Path, kind: str) -> set[str]:
    """The ids of the requests that the model has told this of."""
    return {path.name.removeprefix(f"{kind}-") for path in folder.glob(f"{kind}-*")}


async def test_deadlines_that_pass_before_there_is_a_place(server: Server, tmp_path: Path) -> None:
    async def late_body() -> AsyncIterator[bytes]:
        yield b'{"text": '
        await asyncio.sleep(0.3)  # longer than the request has
        yield b'"echo a"}'

    async with load(server.url) as callers, httpx2.AsyncClient(base_url=server.url, timeout=60) as client:
        soon = {"X-Request-Timeout": "0.2", "Content-Type": "application/json"}
        late = await client.post("/count", content=late_body(), headers=soon)
        assert (late.status_code, late.json()["code"]) == (504, "deadline_exceeded")

        holders = [holding(client, tmp_path, f"holder-{number}") for number in range(16)]
        while len(marks(tmp_path, "began")) < 16:  # every place is taken
            await asyncio.sleep(0.01)
        told: Counter[str] = Counter()
        for accept in ("application/json", "text/event-stream") * 2:
            asking = [
                holding(client, tmp_path, f"late-{number}", X_Request_Timeout="0.2", Accept=accept)
                for number in range(8)
            ]
            told.update(map(outcome, await asyncio.gather(*asking)))
        # At first nobody knows better; once the holders take longer than any before, it is out of reach at once.
        assert set(told) == {"deadline_exceeded", "deadline_out_of_reach"}, told
        assert told.total() == 32
        assert not {each for each in marks(tmp_path, "began") if each.startswith("late")}
        (tmp_path / "go").touch()
        assert {*map(outcome, await asyncio.gather(*holders))} == {"answered"}  # not one suffers for others' deadlines
        await callers.until(20)
    callers.require_documented()
    assert set(callers.outcomes) <= {"answered", "overloaded"}, callers.outcomes


async def test_deadlines_that_pass_in_triton_and_while_events_come(server: Server, tmp_path: Path) -> None:
    async with load(server.url) as callers, httpx2.AsyncClient(base_url=server.url, timeout=60) as client:
        asking = {
            f"{accept.partition('/')[2]}-{number}": holding(
                client, tmp_path, f"{accept.partition('/')[2]}-{number}", X_Request_Timeout="0.7", Accept=accept
            )
            for accept in ("application/json", "text/event-stream")
            for number in range(5)
        }
        assert {*map(outcome, await asyncio.gather(*asking.values()))} == {"deadline_exceeded"}
        assert {name.rstrip("0123456789") for name in marks(tmp_path, "began")} == {"json-", "event-stream-"}
        assert {answer.result().status_code for name, answer in asking.items() if name.startswith("json")} == {504}
        while marks(tmp_path, "left") < marks(tmp_path, "began"):  # the model hears of each
            await asyncio.sleep(0.01)
        await callers.until(20)
    callers.require_documented()
    assert set(callers.outcomes) == {"answered"}, callers.outcomes


async def test_deadlines_that_pass_in_a_plain_model(server: Server, tmp_path: Path) -> None:
    waits = tmp_path / "waits"
    async with httpx2.AsyncClient(base_url=server.url, timeout=60) as client:

        async def ask(timeout_s: float) -> str:
            headers = {"X-Request-Timeout": str(timeout_s)}
            return outcome(await client.post("/echo", json={"text": f"wait {waits}"}, headers=headers))

        async with load(server.url) as callers:
            try:
                # More than Triton runs, more than its queue takes, and some that wait here.
                told = Counter(await asyncio.gather(*(ask(0.3 + 0.02 * number) for number in range(24))))
                assert "deadline_exceeded" in told
                assert set(told) <= {"deadline_exceeded", "deadline_out_of_reach", "queue_full", "overloaded"}, told
                # Triton works on for those who are gone: it does not notice.
                numbers = await scrape(client)
                assert numbers.of("fastapi_triton_in_flight", model="echo") > NUM_CALLERS / 2  # more than the load's
            finally:
                callers.is_over = True
                while (await inner(server))["in_flight"]:  # one by one: each says anew that it waits
                    waits.unlink(missing_ok=True)
                    await asyncio.sleep(0.01)
    callers.require_documented()


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
