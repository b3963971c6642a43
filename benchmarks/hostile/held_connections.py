# SPDX-License-Identifier: Apache-2.0
"""Attacks with connections that hold memory. Each ends when everything is sent or the server stops reading."""

import contextlib
import socket
import threading
from dataclasses import dataclass

from benchmarks.hostile.app import PATH
from benchmarks.hostile.attacked_frontend import Frontend

MB = 1024 * 1024
SENT_MB = 32
# A client that cannot send anything for this long has sent all that the server reads.
STUCK_S = 2.0
POST = b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n" % PATH.encode()
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
GET = b"GET /health/live?ab HTTP/1.1\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Attack:
    """A client that sends `first`, then `piece` repeatedly. `reads` is whether it reads its responses."""

    name: str
    first: bytes
    piece: bytes
    num_connections: int = 1
    sent_mb: float = SENT_MB
    reads: bool = True

    def run(self, frontend: Frontend) -> list[socket.socket]:
        """Send everything. Returns the open connections."""
        return [self._one(frontend) for _ in range(self.num_connections)]

    def _one(self, frontend: Frontend) -> socket.socket:
        connection = frontend.connect()
        if self.reads:
            threading.Thread(target=_read, args=(connection,), daemon=True).start()
        connection.settimeout(STUCK_S)
        block = self.piece * max(1, 64 * 1024 // len(self.piece))
        with contextlib.suppress(OSError):
            connection.sendall(self.first)
            for _ in range(int(self.sent_mb * MB / len(block))):
                connection.sendall(block)
        return connection


def _read(connection: socket.socket) -> None:
    with contextlib.suppress(OSError, ValueError):
        while connection.recv(MB):
            pass


def every() -> list[Attack]:
    chunk = b"2\r\nab\r\n"
    return [
        Attack("trailer fields", CHUNKED + b"0\r\n", b"a:\r\n"),
        Attack("a long trailer field", CHUNKED + b"0\r\na:", b"b"),
        Attack("chunk extensions", CHUNKED + b"2", b";a=b"),
        Attack("chunks with extensions", CHUNKED, b"1;" + b"a" * 1000 + b"\r\nx\r\n"),
        Attack("two-byte chunks", CHUNKED, chunk),
        Attack("header fields", POST, b"a:\r\n"),
        Attack("a long header field", POST + b"a:", b"b"),
        Attack("a long request line", b"GET /", b"a"),
        Attack("pipelined GETs", b"", GET),
        Attack("pipelined GETs, responses not read", b"", GET, reads=False),
        Attack("pipelined behind a body", POST + b"Content-Length: 100000000\r\n\r\n", GET),
        Attack("one stalled upload", POST + b"Content-Length: 20971520\r\n\r\n", b"x", sent_mb=19),
        Attack("100 stalled uploads", POST + b"Content-Length: 20971520\r\n\r\n", b"x", 100, sent_mb=19),
        Attack("800 stalled small uploads", POST + b"Content-Length: 65536\r\n\r\n", b"x", 800, sent_mb=0.06),
    ]
