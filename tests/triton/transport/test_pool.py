# SPDX-License-Identifier: Apache-2.0
"""`ConnectionPool.request` with servers that misbehave: complete responses, idle connections, and their ends."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from fastapi_triton.core.errors import InferenceError, TritonUnavailableError
from fastapi_triton.triton.http_client import HTTPTriton
from fastapi_triton.triton.transport.pool import ConnectionPool

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
BODY = bytes(range(256)) * 8192  # 2 MiB: many reads


class Server:
    """Counts its connections and the requests that it has read."""

    def __init__(self, script: Script) -> None:
        self.num_connections = 0
        self.num_requests = 0
        self._script = script
        self.has_request = asyncio.Event()
        self.is_closed = asyncio.Event()  # the client has closed a connection

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.num_connections += 1
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                self.num_requests += 1
                self.has_request.set()
                await self._script(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            self.is_closed.set()
        finally:
            writer.close()


@asynccontextmanager
async def served_by(script: Script) -> AsyncIterator[tuple[Server, ConnectionPool]]:
    server = Server(script)
    async with await asyncio.start_server(server.serve, "127.0.0.1", 0) as listening:
        connections = ConnectionPool(f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}", connect_timeout_s=5)
        yield server, connections
        connections.close()


async def request(connections: ConnectionPool, timeout_s: float = 30) -> tuple[int, bytes]:
    head, body = await connections.request([REQUEST], timeout_s=timeout_s)
    return head.status, bytes(body)


def whole(body: bytes, *, head: str = "") -> Script:
    async def script(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(f"HTTP/1.1 200 OK\r\n{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        await writer.drain()

    return script


@pytest.mark.parametrize("body", [b"", b"a", BODY], ids=["empty", "short", "long"])
async def test_responses_are_complete_and_share_one_connection(body: bytes) -> None:
    async with served_by(whole(body)) as (server, connections):
        for _ in range(3):
            assert await request(connections) == (200, body)
        assert (server.num_connections, server.num_requests) == (1, 3)


async def test_small_and_large_responses_share_one_connection() -> None:
    """Large bodies bypass the parser."""
    bodies = [b"a", BODY, b"", BODY, b"b", b"c"]
    left = iter(bodies)

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await whole(next(left))(reader, writer)

    async with served_by(script) as (server, connections):
        assert [await request(connections) for _ in bodies] == [(200, body) for body in bodies]
        assert server.num_connections == 1


async def test_a_chunked_response_is_complete() -> None:
    async def script(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        await writer.drain()
        writer.write(b"2\r\nde\r\n0\r\n\r\n")

    async with served_by(script) as (server, connections):
        assert [await request(connections) for _ in range(2)] == [(200, b"abcde")] * 2
        assert server.num_connections == 1


async def test_a_response_without_length_ends_with_its_connection() -> None:
    async def script(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\nabc")
        writer.close()

    async with served_by(script) as (_, connections):
        assert await request(connections) == (200, b"abc")


async def test_a_connection_that_triton_closes_is_not_reused() -> None:
    async with served_by(whole(b"a", head="Connection: close\r\n")) as (server, connections):
        assert [await request(connections) for _ in range(2)] == [(200, b"a")] * 2
        assert server.num_connections == 2


async def test_a_request_that_may_have_run_is_not_sent_again() -> None:
    """The connection of the second request breaks while it is sent."""

    async def script(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if server.num_requests > 1:
            writer.close()
        else:
            await whole(b"a")(_, writer)

    async with served_by(script) as (server, connections):
        assert await request(connections) == (200, b"a")
        with pytest.raises(TritonUnavailableError, match="may have run") as lost:
            await request(connections)
        assert lost.value.code == "triton_connection_lost"
        assert server.num_requests == 2


async def test_a_truncated_response_is_a_lost_connection() -> None:
    async def script(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + b"a" * 400_000)
        await writer.drain()
        writer.close()

    async with served_by(script) as (_, connections):
        with pytest.raises(TritonUnavailableError):
            await request(connections)


async def test_after_a_response_longer_than_its_content_length_the_connection_is_not_reused() -> None:
    async def script(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nabc")

    async with served_by(script) as (server, connections):
        for _ in range(2):
            try:
                assert await request(connections) == (200, b"a")
            except InferenceError:
                continue  # the excess arrived in the same read
        assert server.num_connections == 2


async def test_a_response_that_is_not_http_is_an_inference_error() -> None:
    async def script(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH\r\n\r\n")

    async with served_by(script) as (_, connections):
        with pytest.raises(InferenceError):
            await request(connections)


async def never(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")


async def test_a_timeout_closes_the_connection() -> None:
    async with served_by(never) as (server, connections):
        with pytest.raises(TimeoutError):
            await request(connections, timeout_s=0.05)
        await asyncio.wait_for(server.is_closed.wait(), 30)


async def test_a_cancelled_request_closes_its_connection() -> None:
    async with served_by(never) as (server, connections):
        task = asyncio.create_task(request(connections))
        await asyncio.wait_for(server.has_request.wait(), 30)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(server.is_closed.wait(), 30)


async def test_a_version_is_part_of_the_path() -> None:
    paths: list[bytes] = []
    is_closed = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        paths.append(head.split(b" ")[1])
        length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length"))
        await reader.readexactly(length)
        body = b'{"outputs": [{"name": "y", "datatype": "FP32", "shape": [1], "data": [1.0]}]}'
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                await script(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            is_closed.set()
        finally:
            writer.close()

    async with (
        await asyncio.start_server(serve, "127.0.0.1", 0) as listening,
        HTTPTriton(f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}") as triton,
    ):
        assert (await triton.infer("a b", {}, version="3"))["y"].array.tolist() == [1.0]
        await triton.infer("a b", {})
        triton.pool.close()
        await is_closed.wait()
    assert paths == [b"/v2/models/a%20b/versions/3/infer", b"/v2/models/a%20b/infer"]


async def test_a_connection_with_a_long_unread_response_is_reused() -> None:
    """Reading pauses when too many bytes are unread; the next exchange must resume it."""
    size = 256 * 1024 + 1  # one byte above the limit
    async with served_by(whole(b"x" * size)) as (server, connections):
        async with connections.exchange() as connection:
            connection.start(REQUEST)
            connection.finish()
            while not connection.is_complete:  # noqa: ASYNC110 (it has no event)
                await asyncio.sleep(0.001)
        assert len((await request(connections, timeout_s=10))[1]) == size
        assert server.num_connections == 1


def slow_first(go_on: asyncio.Event) -> Script:
    """Responds to the first request after `go_on`, and to later ones at once."""
    turns = iter([go_on])

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if (turn := next(turns, None)) is not None:
            await turn.wait()
        await whole(b"a")(reader, writer)

    return script


async def test_each_exchange_has_its_own_timeout() -> None:
    go_on = asyncio.Event()
    async with served_by(slow_first(go_on)) as (server, connections):
        long = asyncio.create_task(request(connections, timeout_s=60))
        await server.has_request.wait()
        with pytest.raises(TimeoutError):
            await request(connections, timeout_s=-1.0)
        assert not long.done()
        go_on.set()
        assert await long == (200, b"a")


async def test_the_timeout_of_a_finished_exchange_does_not_end_the_next() -> None:
    async with served_by(whole(b"a")) as (server, connections):
        await request(connections, timeout_s=0.05)
        async with connections.exchange() as connection:
            connection.start(REQUEST)
            connection.finish()
            await asyncio.sleep(0.1)  # longer than the first timeout
            assert (await connection.head()).status == 200
        assert server.num_connections == 1


async def test_an_exchange_that_runs_when_the_pool_is_closed_still_times_out() -> None:
    async with served_by(never) as (server, connections):
        task = asyncio.create_task(request(connections, timeout_s=0.05))
        await server.has_request.wait()
        connections.close()
        with pytest.raises(TimeoutError):
            await task
