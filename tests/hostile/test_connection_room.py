# SPDX-License-Identifier: Apache-2.0
"""More connections than the limit: requests get 503, health probes are served, no connection is reset."""

import asyncio
import contextlib
import json
import resource
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from starlette.types import Receive, Scope, Send

from fastapi_triton.serving import process_limits
from fastapi_triton.serving.process_limits import SPARE_CONNECTIONS
from support.scripted_app import LIMITS, ScriptedApp, echo, running
from support.serving import Server

LIVE = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"
OTHER = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"


async def test_idle_connections_are_closed_for_new_ones() -> None:
    async with running(ScriptedApp(LIMITS.model_copy(update={"max_connections": 5}), echo)) as server:
        idle = [await server.wire() for _ in range(5 + SPARE_CONNECTIONS)]
        for wire in idle:
            await wire.send(LIVE)
            assert (await wire.response())[0] == 200
        for _ in range(50):
            wire = await server.wire()
            await wire.send(LIVE)
            assert (await wire.response())[0] == 200
            await wire.send(OTHER)
            response = await wire.rest()
            assert response.startswith(b"HTTP/1.1 503 ")
            assert b"retry-after: 1\r\n" in response
        assert server.num_connections <= 5 + SPARE_CONNECTIONS + 1


async def test_connections_with_requests_are_never_closed_for_new_ones() -> None:
    go_on = asyncio.Event()

    async def talk(scope: Scope, receive: Receive, send: Send) -> None:
        await go_on.wait()
        await echo(scope, receive, send)

    async with running(ScriptedApp(LIMITS.model_copy(update={"max_connections": 20}), talk)) as server:
        busy = [await server.wire() for _ in range(20)]
        for wire in busy:
            await wire.send(OTHER)
        for _ in range(2 * SPARE_CONNECTIONS):
            wire = await server.wire()
            await wire.send(OTHER)
            assert (await wire.rest()).startswith(b"HTTP/1.1 503 ")
        probes = [await server.wire() for _ in range(SPARE_CONNECTIONS)]
        for wire in probes:
            await wire.send(LIVE)
        while len(server.server.server_state.tasks) < len(busy) + len(probes):  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        assert (await (await server.wire()).rest()).startswith(b"HTTP/1.1 503 ")
        go_on.set()
        assert {(await wire.response())[0] for wire in (*busy, *probes)} == {200}


@pytest.fixture
def limited(tmp_path: Path) -> Iterator[Server]:
    """A server that may open 1,024 files, in front of no Triton."""
    command = (sys.executable, "-m", "fastapi_triton", "serve", "--triton", "http://127.0.0.1:9")
    server = Server(["sh", "-c", 'ulimit -n 1024 && exec "$@"', "sh", *command], folder=tmp_path)
    try:
        _wait_until_live(server)
        yield server
    finally:
        server.stop()


def _wait_until_live(server: Server) -> None:
    server.wait_for("the frontend listens on")
    while True:
        with contextlib.suppress(httpx2.ConnectError):
            assert server.get("/health/live").status_code == 200
            return


def _responses(wires: list[socket.socket], data: bytes) -> list[bytes]:
    for wire in wires:
        with contextlib.suppress(OSError):
            wire.sendall(data)
    responses = []
    for wire in wires:
        try:
            responses.append(wire.recv(10_000))
        except OSError as error:
            responses.append(type(error).__name__.encode())
    return responses


@pytest.fixture
def many_files() -> Iterator[None]:
    """This process may open 2,000 files."""
    before = soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 2000:
        pytest.skip(f"opens 1,300 connections, but the hard limit is {hard} files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (2000 if 0 <= soft < 2000 else soft, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.usefixtures("many_files")
def test_process_with_few_file_descriptors_responds_to_all_clients(limited: Server) -> None:
    with contextlib.ExitStack() as stack:

        def connect() -> socket.socket:
            wire = socket.create_connection(("127.0.0.1", limited.port), timeout=30)
            return stack.enter_context(wire)

        first = [connect() for _ in range(700)]
        assert {each[:13] for each in _responses(first, LIVE)} == {b"HTTP/1.1 200 "}
        for _ in range(400):
            wire = connect()
            assert _responses([wire], LIVE)[0].startswith(b"HTTP/1.1 200 ")
        wire = connect()
        wire.sendall(b"GET /docs HTTP/1.1\r\nHost: x\r\n\r\n")
        rejected = b"".join(iter(lambda: wire.recv(10_000), b""))  # until it is closed
        assert rejected.startswith(b"HTTP/1.1 503 ")
        assert json.loads(rejected.partition(b"\r\n\r\n")[2])["code"] == "overloaded"
        assert len(list(Path(f"/proc/{limited.process.pid}/fd").iterdir())) < 1024
    assert "Too many open files" not in limited.log
    assert "may open 1024 files" in limited.log


def test_soft_limit_is_raised_to_the_hard_limit(tmp_path: Path) -> None:
    command = (sys.executable, "-m", "fastapi_triton", "serve", "--triton", "http://127.0.0.1:9")
    server = Server(["sh", "-c", 'ulimit -Sn 512 && exec "$@"', "sh", *command], folder=tmp_path)
    try:
        _wait_until_live(server)
        limits = Path(f"/proc/{server.process.pid}/limits").read_text()
    finally:
        server.stop()
    soft, hard = next(line for line in limits.splitlines() if line.startswith("Max open files")).split()[3:5]
    assert soft == (hard if hard != "unlimited" and int(hard) <= 65_536 else "65536")


def test_connection_limit_follows_the_setting_up_to_the_file_limit() -> None:
    assert process_limits.connections_within(10) == 10
    assert process_limits.connections_within(10**9) < 10**9
