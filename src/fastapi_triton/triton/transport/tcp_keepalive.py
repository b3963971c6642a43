# SPDX-License-Identifier: Apache-2.0
"""Detects connections that died silently: behind NAT or a load balancer, or when a machine lost power."""

import asyncio
import select
import socket
from dataclasses import dataclass

# Any data on an idle connection, above all its end.
_NEWS = select.POLLIN | select.POLLHUP | select.POLLERR | getattr(select, "POLLRDHUP", 0)


@dataclass(frozen=True, slots=True)
class KeepAlive:
    """The TCP keep-alive options, in whole seconds.

    The kernel acknowledges for a busy or stopped program, so a request may take any time. A lost machine or route is
    detected after `idle_s` + `interval_s` * `count` of silence, or after `unacknowledged_s` if sent data is not
    acknowledged.
    """

    idle_s: int = 15
    interval_s: int = 5
    count: int = 3
    unacknowledged_s: int = 30

    def apply(self, transport: asyncio.BaseTransport) -> None:
        """Set the options that this platform supports."""
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in (
            ("TCP_KEEPIDLE", self.idle_s),
            ("TCP_KEEPINTVL", self.interval_s),
            ("TCP_KEEPCNT", self.count),
            ("TCP_USER_TIMEOUT", self.unacknowledged_s * 1000),
        ):
            option = getattr(socket, name, None)
            if option is not None:
                sock.setsockopt(socket.IPPROTO_TCP, option, value)


KEEP_ALIVE = KeepAlive()


class Liveness:
    """Checks whether an idle connection is still open, in the kernel, which detects its end before the event loop."""

    def __init__(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._poll = select.poll()
        self._poll.register(transport.get_extra_info("socket").fileno(), _NEWS)

    def is_alive(self) -> bool:
        """False if the other side has closed the connection or sent anything. Takes less than a microsecond."""
        return not self._transport.is_closing() and not self._poll.poll(0)
