# SPDX-License-Identifier: Apache-2.0
"""ConnectionPool that die without a word, as behind a NAT: the kernel drops every packet of one, both ways."""

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

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="packets are swallowed by a filter of Linux's sockets")

GET = (b"GET / HTTP/1.1\r\nhost: x\r\n\r\n",)
# Seconds, as short as the kernel counts.
SHORT = KeepAlive(idle_s=1, interval_s=1, count=1, unacknowledged_s=1)


def swallow_packets(sock: socket.socket) -> None:
    """Whatever comes for this socket is dropped before TCP sees it, so nothing of it is ever acknowledged."""
    drop_all = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))  # BPF_RET, 0 bytes kept
    program = struct.pack("HL", 1, ctypes.addressof(drop_all))
    sock.setsockopt(socket.SOL_SOCKET, 26, program)  # SO_ATTACH_FILTER


async def test_a_request_in_flight_learns_that_its_way_is_gone() -> None:
    asked = asyncio.Event()

    async def swallow(upstream: Upstream) -> None:
        await upstream.request()
        swallow_packets(upstream.writer.get_extra_info("socket"))
        asked.set()
        await upstream.closed()

    async with scripted_triton() as triton:
        triton.script = swallow
        connections = ConnectionPool(triton.url, connect_timeout_s=5, keep_alive=SHORT)
        with pytest.raises(TritonUnavailableError, match="may have run") as lost:
            await connections.request(GET, timeout_s=60)
        assert asked.is_set()
        assert lost.value.code == "triton_connection_lost"


async def test_a_kept_connection_whose_way_is_gone_is_not_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async with scripted_triton() as triton:
        connections = ConnectionPool(triton.url, connect_timeout_s=5, keep_alive=SHORT)
        await connections.request(GET, timeout_s=60)
        (kept,) = connections._idle
        is_lost = asyncio.Event()
        monkeypatch.setattr(kept, "connection_lost", lambda error: is_lost.set())
        swallow_packets(triton.writers[0].get_extra_info("socket"))
        await is_lost.wait()  # the kernel has found out
        assert (await connections.request(GET, timeout_s=60))[0].status == 200
        assert triton.num_connections == 2
        connections.close()


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_the_kernel_is_told_on_either_event_loop(loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    async def options() -> list[int]:
        async with scripted_triton() as triton:
            connections = ConnectionPool(triton.url, connect_timeout_s=5)
            async with connections.exchange() as connection:
                sock = connection._transport.get_extra_info("socket")
                names = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT, socket.TCP_USER_TIMEOUT)
                told = [sock.getsockopt(socket.IPPROTO_TCP, name) for name in names]
                return [sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE), *told]

    with asyncio.Runner(loop_factory=loop) as runner:
        told = runner.run(options())
    kept = KEEP_ALIVE
    assert told == [1, kept.idle_s, kept.interval_s, kept.count, kept.unacknowledged_s * 1000]
    # A balancer forgets after a minute at the earliest.
    assert kept.idle_s + kept.interval_s * kept.count <= 60
