# SPDX-License-Identifier: Apache-2.0
"""`ConnectionPool.ask` against a server that misbehaves on request: whole answers, kept connections, and their ends."""

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
        self.is_closed = asyncio.Event()  # by the caller, of the connection that ended last

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
async def answering(script: Script) -> AsyncIterator[tuple[Server, ConnectionPool]]:
    server = Server(script)
    async with await asyncio.start_server(server.serve, "127.0.0.1", 0) as listening:
        connections = ConnectionPool(f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}", connect_timeout_s=5)
        yield server, connections
        connections.close()


async def ask(connections: ConnectionPool, timeout_s: float = 30) -> tuple[int, bytes]:
    head, body = await connections.request([REQUEST], timeout_s=timeout_s)
    return head.status, bytes(body)


def whole(body: bytes, *, head: str = "") -> Script:
    async def script(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(f"HTTP/1.1 200 OK\r\n{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        await writer.drain()

    return script


@pytest.mark.parametrize("body", [b"", b"a", BODY], ids=["empty", "short", "long"])
async def test_answers_come_whole_and_over_one_connection(body: bytes) -> None:
    async with answering(whole(body)) as (server, connections):
        for _ in range(3):
            assert await ask(connections) == (200, body)
        assert (server.num_connections, server.num_requests) == (1, 3)


async def test_small_and_large_answers_follow_each_other_on_one_connection() -> None:
    """A large one is written past the parser, which must not be asked again."""
    bodies = [b"a", BODY, b"", BODY, b"b", b"c"]
    left = iter(bodies)

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await whole(next(left))(reader, writer)

    async with answering(script) as (server, connections):
        assert [await ask(connections) for _ in bodies] == [(200, body) for body in bodies]
        assert server.num_connections == 1


async def test_a_chunked_answer_comes_whole_too() -> None:
    async def script(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        await writer.drain()
        writer.write(b"2\r\nde\r\n0\r\n\r\n")

    async with answering(script) as (server, connections):
        assert [await ask(connections) for _ in range(2)] == [(200, b"abcde")] * 2
        assert server.num_connections == 1


async def test_an_answer_without_a_length_ends_with_its_connection() -> None:
    async def script(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\nabc")
        writer.close()

    async with answering(script) as (_, connections):
        assert await ask(connections) == (200, b"abc")


async def test_a_connection_that_triton_gives_up_is_not_used_again() -> None:
    async with answering(whole(b"a", head="Connection: close\r\n")) as (server, connections):
        assert [await ask(connections) for _ in range(2)] == [(200, b"a")] * 2
        assert server.num_connections == 2


async def test_what_may_have_run_is_never_sent_again() -> None:
    """The second request finds a kept connection that dies as it is sent."""

    async def script(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if server.num_requests > 1:
            writer.close()
        else:
            await whole(b"a")(_, writer)

    async with answering(script) as (server, connections):
        assert await ask(connections) == (200, b"a")
        with pytest.raises(TritonUnavailableError, match="may have run") as lost:
            await ask(connections)
        assert lost.value.code == "triton_connection_lost"
        assert server.num_requests == 2


async def test_an_answer_that_breaks_off_is_a_lost_connection() -> None:
    async def script(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + b"a" * 400_000)
        await writer.drain()
        writer.close()

    async with answering(script) as (_, connections):
        with pytest.raises(TritonUnavailableError):
            await ask(connections)


async def test_an_answer_that_is_longer_than_it_says_spoils_the_connection() -> None:
    async def script(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nabc")

    async with answering(script) as (server, connections):
        for _ in range(2):
            try:
                assert await ask(connections) == (200, b"a")
            except InferenceError:
                continue  # it was seen in the same read
        assert server.num_connections == 2


async def test_what_is_no_http_is_a_failure_of_tritons() -> None:
    async def script(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH\r\n\r\n")

    async with answering(script) as (_, connections):
        with pytest.raises(InferenceError):
            await ask(connections)


async def never(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")


async def test_one_that_takes_too_long_is_left_and_its_connection_closed() -> None:
    async with answering(never) as (server, connections):
        with pytest.raises(TimeoutError):
            await ask(connections, timeout_s=0.05)
        await asyncio.wait_for(server.is_closed.wait(), 30)


async def test_a_cancelled_request_closes_its_connection() -> None:
    async with answering(never) as (server, connections):
        asking = asyncio.create_task(ask(connections))
        await asyncio.wait_for(server.has_request.wait(), 30)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await asyncio.wait_for(server.is_closed.wait(), 30)


async def test_a_version_is_asked_for_by_its_own_path() -> None:
    paths: list[bytes] = []
    is_left = asyncio.Event()

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
            is_left.set()
        finally:
            writer.close()

    async with (
        await asyncio.start_server(serve, "127.0.0.1", 0) as listening,
        HTTPTriton(f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}") as triton,
    ):
        assert (await triton.infer("a b", {}, version="3"))["y"].array.tolist() == [1.0]
        await triton.infer("a b", {})
        triton.pool.close()
        await is_left.wait()
    assert paths == [b"/v2/models/a%20b/versions/3/infer", b"/v2/models/a%20b/infer"]


async def test_a_connection_whose_long_response_nobody_read_is_read_again() -> None:
    """Reading pauses when too much of a response waits; the next exchange must not meet that pause."""
    size = 256 * 1024 + 1  # the last byte is the one too many
    async with answering(whole(b"x" * size)) as (server, connections):
        async with connections.exchange() as connection:
            connection.start(REQUEST)
            connection.finish()
            while not connection.is_complete:  # noqa: ASYNC110 (there is no event of it)
                await asyncio.sleep(0.001)
        assert len((await ask(connections, timeout_s=10))[1]) == size
        assert server.num_connections == 1


def slow_first(go_on: asyncio.Event) -> Script:
    """The first request waits for `go_on`, later ones are answered at once."""
    turns = iter([go_on])

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if (turn := next(turns, None)) is not None:
            await turn.wait()
        await whole(b"a")(reader, writer)

    return script


async def test_each_exchange_has_its_own_timeout() -> None:
    go_on = asyncio.Event()
    async with answering(slow_first(go_on)) as (server, connections):
        long = asyncio.create_task(ask(connections, timeout_s=60))
        await server.has_request.wait()
        with pytest.raises(TimeoutError):
            await ask(connections, timeout_s=-1.0)
        assert not long.done()
        go_on.set()
        assert await long == (200, b"a")


async def test_the_timeout_of_an_exchange_that_is_over_does_not_end_the_next() -> None:
    async with answering(whole(b"a")) as (server, connections):
        await ask(connections, timeout_s=0.05)
        async with connections.exchange() as connection:
            connection.start(REQUEST)
            connection.finish()
            await asyncio.sleep(0.1)  # the first one's timeout has passed
            assert (await connection.head()).status == 200
        assert server.num_connections == 1


async def test_an_exchange_that_runs_when_the_pool_closes_still_times_out() -> None:
    async with answering(never) as (server, connections):
        asking = asyncio.create_task(ask(connections, timeout_s=0.05))
        await server.has_request.wait()
        connections.close()
        with pytest.raises(TimeoutError):
            await asking
