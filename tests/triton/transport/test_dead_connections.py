# SPDX-License-Identifier: Apache-2.0
"""Connections that die silently, as behind a NAT: the kernel drops all their packets."""

import asyncio
import ctypes
import socket
import struct
import sys
from collections.abc import Callable

import pytest
import uvloop

from fastapi_triton.core.errors import TritonUnavailableError
from fastapi_triton.triton.transport.pool import ConnectionPool
from fastapi_triton.triton.transport.tcp_keepalive import KEEP_ALIVE, KeepAlive
from support.scripted_triton import Upstream, scripted_triton

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux: its socket filters")

GET = (b"GET / HTTP/1.1\r\nhost: x\r\n\r\n",)
# In seconds, the shortest that the kernel supports.
SHORT = KeepAlive(idle_s=1, interval_s=1, count=1, unacknowledged_s=1)


def swallow_packets(sock: socket.socket) -> None:
    """Drop the packets for this socket before TCP, so that none is acknowledged."""
    drop_all = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))  # BPF_RET, 0 bytes kept
    program = struct.pack("HL", 1, ctypes.addressof(drop_all))
    sock.setsockopt(socket.SOL_SOCKET, 26, program)  # SO_ATTACH_FILTER


async def test_a_request_on_a_dead_connection_fails() -> None:
    has_request = asyncio.Event()

    async def swallow(upstream: Upstream) -> None:
        await upstream.request()
        swallow_packets(upstream.writer.get_extra_info("socket"))
        has_request.set()
        await upstream.closed()

    async with scripted_triton() as triton:
        triton.script = swallow
        connections = ConnectionPool(triton.url, connect_timeout_s=5, keep_alive=SHORT)
        with pytest.raises(TritonUnavailableError, match="may have run") as lost:
            await connections.request(GET, timeout_s=60)
        assert has_request.is_set()
        assert lost.value.code == "triton_connection_lost"


async def test_a_dead_idle_connection_is_not_reused(monkeypatch: pytest.MonkeyPatch) -> None:
    async with scripted_triton() as triton:
        connections = ConnectionPool(triton.url, connect_timeout_s=5, keep_alive=SHORT)
        await connections.request(GET, timeout_s=60)
        (kept,) = connections._idle
        is_lost = asyncio.Event()
        monkeypatch.setattr(kept, "connection_lost", lambda error: is_lost.set())
        swallow_packets(triton.writers[0].get_extra_info("socket"))
        await is_lost.wait()  # the kernel has detected it
        assert (await connections.request(GET, timeout_s=60))[0].status == 200
        assert triton.num_connections == 2
        connections.close()


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_keep_alive_is_set_on_both_event_loops(loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    async def options() -> list[int]:
        async with scripted_triton() as triton:
            connections = ConnectionPool(triton.url, connect_timeout_s=5)
            async with connections.exchange() as connection:
                sock = connection._transport.get_extra_info("socket")
                names = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT, socket.TCP_USER_TIMEOUT)
                tcp_options = [sock.getsockopt(socket.IPPROTO_TCP, name) for name in names]
                return [sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE), *tcp_options]

    with asyncio.Runner(loop_factory=loop) as runner:
        values = runner.run(options())
    kept = KEEP_ALIVE
    assert values == [1, kept.idle_s, kept.interval_s, kept.count, kept.unacknowledged_s * 1000]
    # Load balancers forget idle connections after a minute or more.
    assert kept.idle_s + kept.interval_s * kept.count <= 60
