# SPDX-License-Identifier: Apache-2.0
"""Noticing that a connection is dead though nobody said so: behind a NAT, a balancer, or a machine that lost power."""

import asyncio
import select
import socket
from dataclasses import dataclass

# Anything to read on a connection that nobody asked on, its end above all.
_NEWS = select.POLLIN | select.POLLHUP | select.POLLERR | getattr(select, "POLLRDHUP", 0)


@dataclass(frozen=True, slots=True)
class KeepAlive:
    """What the kernel is told to ask of the other side's kernel, in whole seconds.

    A program that is busy or stopped still counts as there, since its kernel answers for it: so a request may take as
    long as it likes. One whose machine or way is gone is noticed after `idle_s` + `interval_s` * `count` of silence,
    and after `unacknowledged_s` where something was sent that nobody confirms.
    """

    idle_s: int = 15
    interval_s: int = 5
    count: int = 3
    unacknowledged_s: int = 30

    def apply(self, transport: asyncio.BaseTransport) -> None:
        """Set it on a connection, as far as this platform knows it."""
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
    """Whether a kept connection is still as it was left. The kernel is asked: it knows before the event loop does."""

    def __init__(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._poll = select.poll()
        self._poll.register(transport.get_extra_info("socket").fileno(), _NEWS)

    def is_alive(self) -> bool:
        """False where the other side has closed it, or sent what nobody asked for. Takes less than a microsecond."""
        return not self._transport.is_closing() and not self._poll.poll(0)
