# SPDX-License-Identifier: Apache-2.0
"""Mutated `/v2` requests through the frontend to a real Triton: each gets a response, and no process of Triton dies."""

import asyncio
import os
import random
from collections import Counter
from collections.abc import Iterator

import pytest

from support import v2_mutations
from support.serving import Server, serving

pytestmark = pytest.mark.integration

SEED = int(os.environ.get("FUZZ_SEED", "1"))
MANY = int(os.environ.get("FUZZ_V2", "100000"))
AT_ONCE = 16
BATCH = 2_000
LIMIT_S = 60
# Seconds. A request with a mutated length waits for bytes that never arrive.
TIMEOUTS = ("--head-timeout-s", "0.5", "--body-pause-timeout-s", "0.5", "--idle-timeout-s", "0.5")
# Served, or rejected by the frontend, by Triton or by the model.
EXPECTED = {b"200", b"400", b"403", b"404", b"405", b"408", b"413", b"415", b"431", b"500", b"501", b"503", b""}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("v2")
    v2_mutations.repository(folder / "models")
    with serving("--embedded", "--v2-compressed", *TIMEOUTS, folder=folder) as one:
        yield one.wait_until_ready()


async def status_of(port: int, request: bytes) -> bytes:
    """The status of the response once it is complete, or None if the server closed without one."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**24)
    try:
        writer.write(request)
        async with asyncio.timeout(LIMIT_S):
            head = await reader.readuntil(b"\r\n\r\n")
            if head[9:12] == b"100":
                head = await reader.readuntil(b"\r\n\r\n")
            lowered = head.lower()
            if b"\r\ncontent-length: " in lowered:
                await reader.readexactly(int(lowered.partition(b"\r\ncontent-length: ")[2].partition(b"\r\n")[0]))
            elif b"chunked" in lowered:
                await reader.readuntil(b"0\r\n\r\n")
            return head[9:12]
    except (asyncio.IncompleteReadError, ConnectionError):
        return b""
    finally:
        writer.transport.abort()


async def send(port: int, chance: random.Random, count: int) -> Counter[bytes]:
    """Send this many requests, `AT_ONCE` at a time, and count the statuses."""
    statuses: Counter[bytes] = Counter()
    remaining = iter(range(count))

    async def client() -> None:
        for _ in remaining:
            request = v2_mutations.request(chance)
            try:
                statuses[await status_of(port, request)] += 1
            except TimeoutError:
                pytest.fail(f"no response to {request[:2000]!r}")

    await asyncio.gather(*(client() for _ in range(AT_ONCE)))
    return statuses


def fuzz(server: Server, count: int) -> Counter[bytes]:
    chance = random.Random(SEED)  # noqa: S311
    before = processes(server)
    assert len(before) > len(v2_mutations.ODD_MODELS)
    statuses: Counter[bytes] = Counter()
    for start in range(0, count, BATCH):
        statuses += asyncio.run(send(server.port, chance, min(BATCH, count - start)))
        assert processes(server) == before, (
            f"one died within requests {start} to {start + BATCH}:\n{server.log[-3000:]}"
        )
        print(f"{start + BATCH} requests: {dict(statuses)}")  # noqa: T201 (shows progress with -s)
    assert statuses.keys() <= EXPECTED, statuses
    for model in ("echo", "count_stream", *v2_mutations.ODD_MODELS):
        assert server.get(f"/v2/models/{model}/ready").status_code == 200
    text = {"inputs": [{"name": "text", "shape": [1, 1], "datatype": "BYTES", "data": ["a"]}]}
    assert server.post("/v2/models/echo/infer", json=text).json()["outputs"][0]["data"] == ["a"]
    return statuses


def processes(server: Server) -> set[int]:
    """The live processes of Triton and its models."""
    return {each.pid for each in server.below() if each.is_running() and each.status() != "zombie"}


def test_triton_survives_hundreds_of_mutated_requests(server: Server) -> None:
    statuses = fuzz(server, 400)
    assert statuses[b"200"] > 20
    assert statuses[b"400"] > 100


@pytest.mark.slow
def test_triton_survives_thousands_of_mutated_requests(server: Server) -> None:
    fuzz(server, 6_000)


@pytest.mark.fuzz
@pytest.mark.timeout(7200)
def test_triton_survives_any_mutated_requests(server: Server) -> None:
    fuzz(server, MANY)
