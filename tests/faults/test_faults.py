# SPDX-License-Identifier: Apache-2.0
"""Faults under load, with a real Triton: every request gets one response, and the server recovers."""

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
async def test_the_frontend_survives_a_killed_triton(server: Server) -> None:
    async with load(server.url) as clients:
        server.named("tritonserver").kill()
        await until_ready(server)
        await clients.until(20)
    clients.require_documented()


@pytest.mark.slow
async def test_the_frontend_survives_killed_stub_processes(server: Server) -> None:
    async with load(server.url) as clients:
        for stub in stubs(server):
            stub.kill()
        await clients.until(20)
        await until_ready(server)
    clients.require_documented()


async def test_the_frontend_survives_a_stopped_triton(server: Server) -> None:
    triton = server.named("tritonserver")
    async with load(server.url) as clients:
        triton.send_signal(signal.SIGSTOP)
        try:
            async with httpx2.AsyncClient(base_url=server.url, timeout=30) as client:
                assert (await client.get("/health/live")).status_code == 200
            while (await inner(server))["in_flight"] < NUM_CALLERS:
                await asyncio.sleep(0.01)
        finally:
            triton.send_signal(signal.SIGCONT)
        await clients.until(20)
    clients.require_documented()


async def test_requests_over_the_limit_are_rejected_with_retry_after(server: Server, tmp_path: Path) -> None:
    waits = tmp_path / "waits"
    async with httpx2.AsyncClient(base_url=server.url, timeout=60) as client:
        pending = [asyncio.create_task(client.post("/echo", json={"text": f"wait {waits}"})) for _ in range(40)]
        try:
            await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)  # a request is rejected
        finally:
            while not all(each.done() for each in pending):  # one by one: each request creates the file again
                waits.unlink(missing_ok=True)
                await asyncio.sleep(0.01)
    responses = [each.result() for each in pending]
    rejected = [response for response in responses if response.status_code != 200]
    assert len(rejected) < 40
    assert {response.status_code for response in rejected} == {503}
    assert {response.json()["code"] for response in rejected} <= {"overloaded", "queue_full"}
    assert all(int(response.headers["retry-after"]) >= 1 for response in rejected)


async def test_clients_may_disconnect_at_every_stage(server: Server, tmp_path: Path) -> None:
    count = json.dumps({"text": f"hold {tmp_path}"}).encode()
    large = json.dumps({"text": "echo a", "num_steps": 2000, "size": 4000}).encode()
    head = (
        b"POST /count HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nAccept: %s\r\nContent-Length: %d\r\n\r\n"
    )
    whole = head % (b"text/event-stream", len(count)) + count
    async with load(server.url) as clients:
        for sent, is_running in (
            (b"", False),
            (whole[:20], False),
            (whole[:-5], False),
            (whole, False),
            (whole, True),
            (head % (b"application/json", len(count)) + count, True),
            (head % (b"text/event-stream", len(large)) + large, False),  # the client does not read the response
        ):
            for mark in tmp_path.glob("began-*"):
                mark.unlink()
            raw = socket.create_connection(("127.0.0.1", server.port))
            raw.sendall(sent)
            while is_running and not list(tmp_path.glob("began-*")):
                await asyncio.sleep(0.01)
            # Close with a reset, as a phone that loses its network does.
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            raw.close()
        while len(list(tmp_path.glob("left-*"))) < 2:
            await asyncio.sleep(0.01)
        await clients.until(20)
    clients.require_documented()
    assert set(clients.outcomes) <= {"answered", "overloaded"}


def outcome(response: httpx2.Response) -> str:
    """The outcome for a client: an error code, or `answered`. A stream must have exactly one last event."""
    if not response.headers["content-type"].startswith("text/event-stream"):
        return "answered" if response.status_code == 200 else str(response.json()["code"])
    assert response.text.count("event: error") + response.text.count("event: completed") == 1, response.text
    if "event: completed" in response.text:
        return "answered"
    return response.text.partition('"code":"')[2].partition('"')[0]


def holding(client: httpx2.AsyncClient, folder: Path, request_id: str, **headers: str) -> asyncio.Task[httpx2.Response]:
    """A request that the model holds until `folder` has a file `go`."""
    headers = {"X-Request-ID": request_id} | {name.replace("_", "-"): value for name, value in headers.items()}
    return asyncio.create_task(client.post("/count", json={"text": f"hold {folder}"}, headers=headers))


def marks(folder: Path, kind: str) -> set[str]:
    """The ids of the requests for which the model has created a file of this kind."""
    return {path.name.removeprefix(f"{kind}-") for path in folder.glob(f"{kind}-*")}


async def test_deadlines_may_pass_before_a_slot_is_free(server: Server, tmp_path: Path) -> None:
    async def late_body() -> AsyncIterator[bytes]:
        yield b'{"text": '
        await asyncio.sleep(0.3)  # longer than the deadline
        yield b'"echo a"}'

    async with load(server.url) as clients, httpx2.AsyncClient(base_url=server.url, timeout=60) as client:
        soon = {"X-Request-Timeout": "0.2", "Content-Type": "application/json"}
        late = await client.post("/count", content=late_body(), headers=soon)
        assert (late.status_code, late.json()["code"]) == (504, "deadline_exceeded")

        clock = asyncio.get_running_loop().time
        sent = clock()
        holders = [holding(client, tmp_path, f"holder-{number}") for number in range(16)]
        while len(marks(tmp_path, "began")) < 16:  # every slot is taken
            await asyncio.sleep(0.01)
        patience_s = 1 + 2 * (clock() - sent)  # longer than the estimate, on a slow machine too
        outcomes: Counter[str] = Counter()
        for accept, timeout_s in (
            ("application/json", patience_s),
            ("text/event-stream", 3 * patience_s),
            ("application/json", 0.2),
            ("text/event-stream", 0.2),
        ):
            pending = [
                holding(client, tmp_path, f"late-{number}", X_Request_Timeout=f"{timeout_s:.3f}", Accept=accept)
                for number in range(8)
            ]
            outcomes.update(map(outcome, await asyncio.gather(*pending)))
        # The first ones wait. When the holders have run longer than all requests before, the estimate rejects at once.
        assert outcomes == {"deadline_exceeded": 16, "deadline_out_of_reach": 16}, outcomes
        assert not {each for each in marks(tmp_path, "began") if each.startswith("late")}
        (tmp_path / "go").touch()
        # The deadlines of others do not affect the holders.
        assert {*map(outcome, await asyncio.gather(*holders))} == {"answered"}
        await clients.until(20)
    clients.require_documented()
    assert set(clients.outcomes) <= {"answered", "overloaded"}, clients.outcomes


async def test_deadlines_may_pass_in_triton_and_during_a_stream(server: Server, tmp_path: Path) -> None:
    async with load(server.url) as clients, httpx2.AsyncClient(base_url=server.url, timeout=60) as client:
        pending = {
            f"{accept.partition('/')[2]}-{number}": holding(
                client, tmp_path, f"{accept.partition('/')[2]}-{number}", X_Request_Timeout="0.7", Accept=accept
            )
            for accept in ("application/json", "text/event-stream")
            for number in range(5)
        }
        assert {*map(outcome, await asyncio.gather(*pending.values()))} == {"deadline_exceeded"}
        assert {name.rstrip("0123456789") for name in marks(tmp_path, "began")} == {"json-", "event-stream-"}
        assert {response.result().status_code for name, response in pending.items() if name.startswith("json")} == {504}
        while marks(tmp_path, "left") < marks(tmp_path, "began"):  # the model notices each
            await asyncio.sleep(0.01)
        await clients.until(20)
    clients.require_documented()
    assert set(clients.outcomes) == {"answered"}, clients.outcomes


async def test_deadlines_may_pass_in_a_plain_model(server: Server, tmp_path: Path) -> None:
    waits = tmp_path / "waits"
    async with httpx2.AsyncClient(base_url=server.url, timeout=60) as client:

        async def ask(timeout_s: float) -> str:
            headers = {"X-Request-Timeout": str(timeout_s)}
            return outcome(await client.post("/echo", json={"text": f"wait {waits}"}, headers=headers))

        async with load(server.url) as clients:
            try:
                # More than Triton runs at once, more than its queue holds, and some that wait in the frontend.
                outcomes = Counter(await asyncio.gather(*(ask(0.3 + 0.02 * number) for number in range(24))))
                assert "deadline_exceeded" in outcomes
                rejections = {"deadline_out_of_reach", "queue_full", "overloaded"}
                assert set(outcomes) <= {"deadline_exceeded"} | rejections, outcomes
                # Triton does not notice the passed deadlines, so the requests keep their slots.
                numbers = await scrape(client)
                assert numbers.of("fastapi_triton_in_flight", model="echo") > NUM_CALLERS / 2  # more than the load has
            finally:
                clients.is_finished = True
                while (await inner(server))["in_flight"]:  # one by one: each request creates the file again
                    waits.unlink(missing_ok=True)
                    await asyncio.sleep(0.01)
    clients.require_documented()


@pytest.mark.slow
async def test_the_frontend_survives_dropped_and_delayed_connections_to_triton(
    server: Server, frontends: Callable[..., Server]
) -> None:
    async with proxy(server.triton_url) as triton_proxy:
        frontend = await asyncio.to_thread(frontends, f"127.0.0.1:{triton_proxy.port}")
        async with load(frontend.url) as clients:
            for _ in range(3):
                triton_proxy.drop()
                await clients.until(10)
            triton_proxy.delay_s = 0.2
            await clients.until(10)
            triton_proxy.is_open = False
            triton_proxy.drop()
            async with httpx2.AsyncClient(base_url=frontend.url, timeout=30) as client:
                while (await client.get("/health/ready")).status_code == 200:
                    await asyncio.sleep(0.05)
            triton_proxy.is_open, triton_proxy.delay_s = True, 0.0
            await until_ready(frontend)
            await clients.until(20)
        clients.require_documented()
        while (await inner(frontend))["in_flight"]:
            await asyncio.sleep(0.05)


@pytest.mark.slow
async def test_other_workers_serve_after_one_is_killed(server: Server, frontends: Callable[..., Server]) -> None:
    frontend = await asyncio.to_thread(frontends, server.triton_url, "--workers", "2")
    await asyncio.to_thread(frontend.wait_for, "Application startup complete", times=2)
    async with load(frontend.url) as clients:
        psutil.Process((await inner(frontend))["pid"]).kill()
        await clients.until(20)
        await asyncio.to_thread(frontend.wait_for, "Application startup complete", times=3)
        await clients.until(20)
    clients.require_documented(lost=NUM_CALLERS)  # requests of the killed worker get no response


@pytest.mark.slow
async def test_the_frontend_survives_a_triton_that_is_killed_repeatedly(server: Server) -> None:
    async with load(server.url) as clients:
        for _ in range(5):
            server.named("tritonserver").kill()
            await until_ready(server)
            await clients.until(50)
    clients.require_documented()
